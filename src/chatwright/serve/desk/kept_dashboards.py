"""Dashboards that are measured once and kept.

A small project is measured in the request, whenever something has happened since. A large one (a minute of arithmetic for
100,000 labels) is measured in a process of low priority, at most once a minute and never twice at a time; readers get the
last one meanwhile. The last one outlives a restart, in `cache/` of the workspace.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select

from chatwright.errors import ChatwrightError
from chatwright.feedback import dashboard as figures
from chatwright.feedback.apart import ChildError, run_apart
from chatwright.feedback.figures import Dashboard
from chatwright.feedback.projects import project_of
from chatwright.feedback.tables import LabelEvent, LabelRow
from chatwright.workspace.backup import CACHE
from chatwright.workspace.database import Workspace

LARGE = 5000
"""Labels of a project from which on it is measured in a process of its own."""
REFRESH_S = 60.0
_MEASURE = "chatwright.feedback.dashboard:measure"
_MOST_KEPT = 200
_JSON = TypeAdapter(Dashboard)
log = logging.getLogger("chatwright.serve")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Kind of dashboard."""

    project: str
    labeller_kinds: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of the file that keeps the answer."""
        return f"dashboard-{hashlib.sha256(repr(self).encode()).hexdigest()[:24]}.json"


@dataclass(kw_only=True)
class _Kept:
    """The last answer to a question."""

    answer: Dashboard | None = None
    seen: tuple[int, ...] = ()
    """Last event and number of events when it was measured."""
    due: float = 0.0
    """`time.monotonic` from which on it may be measured again."""
    running: Future[Dashboard] | None = None


class KeptDashboards:
    """The dashboards of one server."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()  # of the dictionary
        self._kept: dict[Question, _Kept] = {}
        self._small = threading.Lock()  # one measurement at a time in this process

    def ask(self, question: Question) -> Dashboard | Future[Dashboard]:
        """The dashboard, or what will be it where a large project is measured for the first time. Raises MissingError."""
        with self.workspace.reading() as session:
            project_of(session, question.project)
            # Their number too: on PostgreSQL an event may be seen after one with a higher id.
            seen = tuple(session.execute(select(func.max(LabelEvent.id), func.count())).one())
            labels = session.scalar(select(func.count()).where(LabelRow.project_id == question.project)) or 0
        kept = self._entry(question)
        if labels < LARGE:
            return self._measure_here(question, kept, seen)
        with self._lock:
            if kept.answer is None:
                self._read(question, kept)
            current = kept.answer is not None and kept.seen == seen
            if not current and kept.running is None and time.monotonic() >= kept.due:
                kept.running = Future()
                threading.Thread(target=self._measure_apart, args=(question, kept, seen), daemon=True).start()
            if kept.answer is not None:
                return kept.answer
            assert kept.running is not None  # `due` is set by an answer, and by a failure, which leaves the old answer
            return kept.running

    def _entry(self, question: Question) -> _Kept:
        with self._lock:
            if len(self._kept) > _MOST_KEPT:
                idle = [one for one, kept in self._kept.items() if kept.running is None and one != question]
                for one in idle[: len(idle) // 2]:
                    del self._kept[one]
            return self._kept.setdefault(question, _Kept())

    def _measure_here(self, question: Question, kept: _Kept, seen: tuple[int, ...]) -> Dashboard:
        with self._small:
            if kept.answer is None or kept.seen != seen:
                with self.workspace.reading() as session:
                    kept.answer = figures.dashboard(
                        session, question.project, labeller_kinds=question.labeller_kinds,
                        held_out=question.held_out or None,
                    )  # fmt: skip
                kept.seen = seen
            return kept.answer

    def _measure_apart(self, question: Question, kept: _Kept, seen: tuple[int, ...]) -> None:
        assert kept.running is not None
        running, began = kept.running, time.monotonic()
        try:
            found = self._run(question)
        except (OSError, ValueError, ChildError, subprocess.SubprocessError) as error:
            log.error("a dashboard could not be measured", extra={"fields": {"project": question.project}}, exc_info=error)
            with self._lock:
                kept.running, kept.due = None, (time.monotonic() + REFRESH_S if kept.answer else 0.0)
            running.set_exception(ChatwrightError("the dashboard could not be measured; the server's log says why"))
            return
        with self._lock:
            kept.answer, kept.seen, kept.running = found, seen, None
            kept.due = began + max(REFRESH_S, 2 * (time.monotonic() - began))
        self._write(question, seen, found)
        running.set_result(found)

    def _run(self, question: Question) -> Dashboard:
        return _JSON.validate_python(run_apart(self.workspace, _MEASURE, asdict(question)))

    def _path(self, question: Question) -> Path:
        return self.workspace.folder / CACHE / question.file

    def _read(self, question: Question, kept: _Kept) -> None:
        """The answer of before a restart."""
        try:
            given = json.loads(self._path(question).read_text(encoding="utf-8"))
            kept.answer, kept.seen = _JSON.validate_python(given["dashboard"]), tuple(given["seen"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return

    def _write(self, question: Question, seen: tuple[int, ...], found: Dashboard) -> None:
        path = self._path(question)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            aside = path.with_suffix(f".{os.getpid()}")
            aside.write_text(json.dumps({"seen": seen, "dashboard": _JSON.dump_python(found)}), encoding="utf-8")
            aside.replace(path)
        except OSError as error:  # a full disk: the answer is kept in memory
            log.warning("a dashboard could not be kept on the disk", exc_info=error)
