"""Logs with request ids: JSON lines, or plain ones on a terminal. Nothing here writes texts of people or secrets.

Messages of exceptions may quote either (`KeyError: 'what somebody wrote'`, the parameters of an SQL statement), so of
exceptions the logs show types and places only, and the words of the operating system or of SQLite where those say why.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
import traceback
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")


def places(error: BaseException | None) -> str:
    """The chain of exceptions, the first cause first: type and frames of each."""
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        words = error.strerror if isinstance(error, OSError) else ""
        if isinstance(error, sqlite3.OperationalError):  # "database is locked", "disk I/O error"
            words = str(error)
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{frames}{name}{f': {words}' if words else ''}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nwhich led to\n".join(reversed(parts))


class JSONLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"at": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), "request_id": request_id.get(), **getattr(record, "fields", {})}
        if record.exc_info:
            line["exception"] = places(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


class Plain(logging.Formatter):
    """For people's eyes."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, "fields", {}).items() if v != "")
        text = f"{time.strftime('%H:%M:%S')} {record.levelname.lower():<7} {record.getMessage()} {fields}".rstrip()
        return f"{text}\n{places(record.exc_info[1])}" if record.exc_info else text


def configure(*, as_json: bool) -> None:
    """Send all logs of this process to stderr, libraries' from warnings on. uvicorn's access log, which shows whole paths,
    stays off."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if as_json or not sys.stderr.isatty() else Plain())
    for name, level in (("", logging.WARNING), ("uvicorn", logging.WARNING), ("chatwright", logging.INFO)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
