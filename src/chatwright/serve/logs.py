"""Logs with request ids: JSON lines, or plain ones on a terminal. Nothing here writes texts of people or secrets."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")


class JSONLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"at": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), "request_id": request_id.get(), **getattr(record, "fields", {})}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Plain(logging.Formatter):
    """For people's eyes."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, "fields", {}).items() if v != "")
        text = f"{time.strftime('%H:%M:%S')} {record.levelname.lower():<7} {record.getMessage()} {fields}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(*, as_json: bool) -> None:
    """Send the server's logs to stderr. uvicorn's access log, which shows whole paths, stays off."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if as_json or not sys.stderr.isatty() else Plain())
    for name, level in (("chatwright", logging.INFO), ("uvicorn", logging.WARNING), ("opentelemetry", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
