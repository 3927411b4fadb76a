"""Intake: prompts out of traffic, with consent. A request hands over what it was and goes on; a thread of its own does the
rest, so that no answer waits for it. What is lost on the way (the queue is full, the server ends or is killed) is counted
like all else: `intake_journal.py` remembers what has not been counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.feedback import consent, funnel, store
from chatwright.feedback.candidates import distinct, kind_for
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.funnel import Counted
from chatwright.feedback.intake_journal import FILE, Entry, Journal
from chatwright.feedback.intake_tables import IntakeSeen
from chatwright.feedback.near_duplicates import digests
from chatwright.feedback.projects import default_project
from chatwright.feedback.steps import Drop, Prepared, Traffic, language_of, prepare
from chatwright.feedback.tasks import NewTask, add_task
from chatwright.workspace.database import Workspace

log = logging.getLogger(__name__)
ACTOR = "server"
Loader = Callable[[Session], Traffic | None]
"""Reads traffic that lies in the database already; None when it was deleted meanwhile."""
Allowed = Callable[[Session, Traffic], bool]
"""Whether its owner still agrees."""
Item = tuple[Entry, Traffic | Loader]


@dataclass(frozen=True, kw_only=True)
class IntakeLimits:
    """What is taken."""

    per_person: int = 200
    """Prompts of one person at most (InstructGPT, section 3.2)."""
    held_out_share: float = 0.1
    """Share of people whose texts are kept out of training."""
    capacity: int = 256
    """Requests that may wait for the intake; what comes on top is counted and let go."""


def take_in(session: Session, key: bytes, given: Prepared, limits: IntakeLimits, *, uuid: str = "") -> str | Drop:
    """Keep a prompt unless it was there before or its person has given enough; the id of its task. Its split is that of the
    person, for good. `uuid`: of the event; "": a new one."""
    traffic = given.traffic
    subject = consent.subject_of(key, traffic.owner)
    if (drop := _repeated_or_enough(session, key, traffic, subject, limits)) is not None:
        return drop
    answers = distinct(traffic.answers)
    several = len(answers) > 1
    split = consent.split_of(key, traffic.owner, limits.held_out_share)
    language = language_of(traffic.messages[-1].content)
    project = default_project(session).id
    task = add_task(
        session,
        NewTask(
            project=project, kind=kind_for(len(answers)) if several else "demonstrate", messages=traffic.messages,
            answers=answers if several else (), language=language, split=split, subject=subject, source=traffic.source,
            priority=1.0 if several else 0.0,
        ),
        actor=ACTOR,
    )  # fmt: skip
    conversation, prefix = digests(traffic.messages, key)
    for kind, digest in (("conversation", conversation), ("prefix", prefix)):
        if digest:
            session.add(IntakeSeen(digest=digest, kind=kind, subject=subject))
    data = {
        "split": split, "source": traffic.source, "language": language, "turns": len(traffic.messages),
        "answers": len(answers), "replaced": dict(sorted(given.replaced.items())),
    }  # fmt: skip
    event = NewEvent(
        kind="prompt.taken_in", uuid=uuid or new_uuid(), actor=ACTOR, project=project, task=task, subject=subject, data=data
    )
    store.append(session, event)
    return task


def _repeated_or_enough(
    session: Session, key: bytes, traffic: Traffic, subject: str, limits: IntakeLimits
) -> Drop | None:  # fmt: skip
    conversation, prefix = digests(traffic.messages, key)
    if session.get(IntakeSeen, conversation) is not None:
        return Drop(step="repeated", reason="same")
    if prefix and session.get(IntakeSeen, prefix) is not None:
        return Drop(step="repeated", reason="long_prefix")
    mine = (IntakeSeen.subject == subject, IntakeSeen.kind == "conversation")
    if (session.scalar(select(func.count()).select_from(IntakeSeen).where(*mine)) or 0) >= limits.per_person:
        return Drop(step="cap", reason="per_person")
    return None


class Intake:
    """The intake of one server."""

    def __init__(
        self, workspace: Workspace, *, allowed: Allowed, limits: IntakeLimits | None = None,
        collect: Callable[[], object] = lambda: None, collect_every_s: float = 60.0,
        reload: Callable[[str], Loader] | None = None,
    ) -> None:  # fmt: skip
        """`collect` is called now and then while there is nothing else to do. `reload`: how to read what `hand_over` got
        with a `ref`, after a crash. The workspace is this process's (`Workspace.lock`)."""
        self.workspace, self.limits = workspace, limits or IntakeLimits()
        self.key = consent.subject_key(workspace.folder)
        self._allowed, self._collect, self._collect_every_s = allowed, collect, collect_every_s
        self._reload, self._journal = reload, Journal(workspace.folder / FILE)
        self._left = list(self._journal.left)  # by the server before
        self._queue: queue.Queue[Item | None] = queue.Queue(self.limits.capacity)
        self._counts: Counter[Counted] = Counter()
        self._dealt_with: list[str] = []  # ids whose counts are in `_counts` or in the database
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = self._to_wipe = False

    def start(self) -> None:
        """Begin to work; the first traffic with consent does it too."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
                self._thread.start()

    def count(self, source: str, step: str, reason: str = "", number: int = 1) -> None:
        """Add to the funnel; written down at the next `flush`."""
        with self._lock:
            self._counts[Counted(source, step, reason)] += number

    def refused(self, source: str) -> None:
        """Count traffic without consent; nothing of it comes here."""
        self.kept_out(source, "consent", "not_given")

    def kept_out(self, source: str, step: str, reason: str) -> None:
        """Count traffic that does not come here."""
        self._settle(self._journal.note(source, step=step, reason=reason), step, reason)

    def hand_over(self, source: str, given: Traffic | Loader, ref: str = "") -> bool:
        """Take traffic whose owner has agreed; returns at once. False: there was no room, which is counted. With a `ref`
        it is taken even when the server ends meanwhile."""
        entry = self._journal.note(source, ref=ref)
        try:
            if self._closed:
                raise queue.Full
            self._queue.put_nowait((entry, given))
        except queue.Full:
            self._settle(entry, "queue", "stopped" if self._closed else "full")
            return False
        self.start()
        return True

    def _settle(self, entry: Entry, step: str = "", reason: str = "") -> None:
        """Count what became of a request; without `step` it has been counted."""
        with self._lock:
            if step:
                self._counts[Counted(entry.source, "received", "")] += 1
                self._counts[Counted(entry.source, step, reason)] += 1
            self._dealt_with.append(entry.id)

    @property
    def waiting(self) -> int:
        """Requests that were handed over and not yet dealt with."""
        return self._queue.unfinished_tasks + len(self._left)

    def wipe(self) -> bool:
        """See `consent.wipe`; what cannot be done now is tried again while there is nothing else to do."""
        self._to_wipe = not consent.wipe(self.workspace)
        if self._to_wipe:
            self.start()
        return not self._to_wipe

    def flush(self) -> None:
        """Write the counts down."""
        with self._writing:
            with self._lock:
                counts, self._counts = self._counts, Counter()
                settled, self._dealt_with = self._dealt_with, []
            try:
                if counts:
                    with self.workspace.session() as session:
                        funnel.add(session, counts)
            except BaseException:
                with self._lock:
                    self._counts.update(counts)
                    self._dealt_with += settled
                raise
            if settled:
                self._journal.settle(settled)

    def idle(self, timeout_s: float = 30.0) -> bool:
        """Wait until all that was handed over is dealt with, and write the counts down."""
        end = time.monotonic() + timeout_s
        while self._thread is not None and self._left and time.monotonic() < end:
            time.sleep(0.01)
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and (left := end - time.monotonic()) > 0:
                self._queue.all_tasks_done.wait(left)
            done = not self._queue.unfinished_tasks
        self.flush()
        return done

    def close(self, timeout_s: float = 5.0) -> None:
        """Work off what waits, at most so long; what is left is counted."""
        self._closed = True
        thread = self._thread
        if thread is not None:
            end = time.monotonic() + timeout_s
            while self._queue.unfinished_tasks and time.monotonic() < end:
                time.sleep(0.01)
            while True:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is not None and not item[0].ref:  # others are taken at the next start
                    self._settle(item[0], "queue", "stopped")
                self._queue.task_done()
            self._queue.put(None)
            thread.join(timeout_s)
        self.flush()
        self._journal.close()

    def _run(self) -> None:
        while self._left and not self._closed:
            self._take_safely(self._left[0], None)
            del self._left[0]
        next_collect = time.monotonic() + self._collect_every_s
        while True:
            try:
                item = self._queue.get(timeout=max(0.05, min(5.0, next_collect - time.monotonic())))
            except queue.Empty:
                next_collect = self._at_leisure(next_collect)
                continue
            try:
                if item is None:
                    return
                self._take_safely(*item)
                if self._queue.empty():
                    self._flush_safely()
            finally:
                self._queue.task_done()

    def _take_safely(self, entry: Entry, given: Traffic | Loader | None) -> None:
        """`given`: None for what the server before left behind."""
        try:
            if given is None:
                self._take_left(entry)
            else:
                self._take(entry, given)
        except Exception:
            log.exception("traffic could not be taken in")
            self._settle(entry, "queue", "failed")

    def _take_left(self, entry: Entry) -> None:
        """What the server before was given and has not counted."""
        if entry.step:
            self._settle(entry, entry.step, entry.reason)
            return
        with self.workspace.reading() as session:
            was_taken = store.find(session, entry.id) is not None
        if was_taken:
            self._settle(entry)
        elif entry.ref and self._reload is not None:
            self._take(entry, self._reload(entry.ref))
        else:
            self._settle(entry, "queue", "crashed")

    def _flush_safely(self) -> None:
        try:
            self.flush()
        except Exception:
            log.exception("the intake's counts could not be written; they are tried again")

    def _at_leisure(self, next_collect: float) -> float:
        """What is done while no traffic waits; gives when to collect next."""
        try:
            if self._to_wipe:
                self._to_wipe = not consent.wipe(self.workspace)
            if time.monotonic() >= next_collect:
                next_collect = time.monotonic() + self._collect_every_s
                self._collect()
            self.flush()
        except Exception:
            log.exception("the intake's housekeeping failed; it is tried again")
            next_collect = max(next_collect, time.monotonic() + 5.0)
        return next_collect

    def _take(self, entry: Entry, given: Traffic | Loader) -> None:
        if not isinstance(given, Traffic):
            with self.workspace.reading() as session:
                found = given(session)
            if found is None:
                self._settle(entry, "usable", "deleted")
                return
            given = found
        several = len(distinct(given.answers)) > 1
        done = prepare(given if several else replace(given, answers=()))  # one answer is nothing to compare
        if isinstance(done, Drop):
            self._settle(entry, done.step, done.reason)
            return
        with self.workspace.session() as session:
            # A withdrawal that happens at the same time comes before the question or after the answer, never between.
            store.hold_subject(session, consent.subject_of(self.key, done.traffic.owner))
            if self._allowed(session, done.traffic):
                kept = take_in(session, self.key, done, self.limits, uuid=entry.id)
            else:
                kept = Drop(step="consent", reason="withdrawn")
            if not isinstance(kept, Drop):
                counts = {Counted(entry.source, "received", ""): 1, **_taken(entry.source, done, several)}
                funnel.add(session, counts)  # with the event by which a restart knows that it was
        if isinstance(kept, Drop):
            self._settle(entry, kept.step, kept.reason)
        else:
            self._settle(entry)


def _taken(source: str, done: Prepared, several: bool) -> dict[Counted, int]:
    replaced = {Counted(source, "scrub", kind): number for kind, number in done.replaced.items()}
    return {Counted(source, "taken", "several_answers" if several else "prompt"): 1, **replaced}
