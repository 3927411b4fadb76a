"""What the intake has been given and not yet counted, in a file, so that a crash of the server loses nothing uncounted.

A line per request, written in one system call before the request goes on. It holds no text: unscrubbed texts are never
written down by the intake. Traffic of the chat lies in the database anyway, so its line names the message and the next start
reads it again; of traffic of the API the next start can only count that it was lost.

The file survives the end of the process, however it comes; it is not synced, so a power cut may lose its last lines.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from chatwright.feedback.events import new_uuid

log = logging.getLogger(__name__)
FILE = "intake-journal"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request."""

    id: str
    """Becomes the uuid of its event when it is taken in, so that it is taken once."""
    source: str
    """api or chat."""
    step: str = ""
    """Which step kept it out already; empty: it waits."""
    reason: str = ""
    """Why."""
    ref: str = ""
    """How to read it again; empty: it lies in memory only."""


class Journal:
    """The file of one server, which has the workspace to itself (`Workspace.lock`)."""

    def __init__(self, path: Path) -> None:
        """Opens the file. OSError when it cannot be opened."""
        self._path, self._lock = path, threading.Lock()
        self.left = _read(path)
        """What the server before left behind."""
        self._open = {entry.id: entry for entry in self.left}
        self._file = self._opened()
        self._failed = False

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, source: str, *, step: str = "", reason: str = "", ref: str = "") -> Entry:
        """Write down that a request came. With a full disk it is known to this process only."""
        entry = Entry(id=new_uuid(), source=source, step=step, reason=reason, ref=ref)
        with self._lock:
            self._open[entry.id] = entry
            if self._file < 0:
                return entry
            try:
                os.write(self._file, _line(entry))
            except OSError as error:
                if not self._failed:  # once, not with every request
                    log.error("the intake's journal cannot be written", extra={"fields": {"error": error.strerror}})
                self._failed = True
        return entry

    def settle(self, ids: Iterable[str]) -> None:
        """These are counted: forget them. An OSError leaves them in the file, where the next call finds them."""
        with self._lock:
            for name in ids:
                self._open.pop(name, None)
            if self._file < 0:
                return
            if self._open:
                self._write_anew()  # at most what waits: some hundred lines
            else:
                os.ftruncate(self._file, 0)

    def _write_anew(self) -> None:
        aside = self._path.with_name(f"{FILE}.new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(map(_line, self._open.values()))
        os.replace(aside, self._path)
        os.close(self._file)
        self._file = self._opened()

    def close(self) -> None:
        """Close the file; what is open stays in it."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _line(entry: Entry) -> bytes:
    return json.dumps({name: value for name, value in asdict(entry).items() if value}).encode() + b"\n"


def _read(path: Path) -> list[Entry]:
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):  # the end of a file that was cut off
            continue
    return found
