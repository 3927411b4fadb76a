"""The queue: who gets which task, and what comes back.

A place at a task is a lease. Labels that count plus leases that run never exceed the task's overlap, so nobody works in
vain: whoever holds a place delivers a label that counts. What comes after a lease has run out and somebody else has taken
the place is kept as surplus.

Every function takes an open session of `Workspace.session()`. On SQLite that is the only writer; on PostgreSQL the row of
the task is locked, and tasks locked by others are skipped while looking for one.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError, MissingError
from chatwright.feedback import screening, store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.labels import Submission, Submitted, submit, undo
from chatwright.feedback.leases import active_lease, others_leases, run_lease
from chatwright.feedback.projects import Project, project_of, projects
from chatwright.feedback.tables import LabelRow, Lease, SkipRow, TaskRow
from chatwright.feedback.tasks import (
    Answer,
    NewTask,
    add_task,
    adjudicate,
    clear_flags,
    close,
    disagreement,
    locked,
    record_merge,
    set_priorities,
)
from chatwright.workspace.database import now

__all__ = [
    "Answer", "Claimed", "NewTask", "Submission", "Submitted", "add_task", "adjudicate", "claim", "clear_flags", "close",
    "disagreement", "flag", "locked", "record_merge", "release", "renew", "set_priorities", "skip", "submit", "undo",
    "waiting",
]  # fmt: skip
_MOST_COUNTED = 1000
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A place at a task."""

    task: str
    """Its id; what it holds: `read.task_view`."""
    expires_at: float
    """When the place ends unless it is renewed."""
    shown_order: tuple[int, ...]
    """Order in which this labeller is shown the answers."""


def claim(
    session: Session, labeller: str, *, kinds: Collection[str], languages: Collection[str] = (), project: str = "",
    exclude: Collection[str] = (), rng: random.Random = _RANDOM,
) -> Claimed | None:  # fmt: skip
    """A place at the next task, or the one that is held already; None when there is nothing for this labeller.

    First what he holds, then the screening test, then by priority, then those with the fewest labels, then the oldest;
    with chance `gold_share` one whose right order is known. Nobody gets a task twice. `languages`, empty: all;
    `project`, "": all that are open; `exclude`: ids of tasks not wanted now.
    """
    for one in [project_of(session, project)] if project else projects(session):
        if one.archived_at is not None:
            continue
        wanted = [kind for kind in kinds if kind in one.settings.kinds or kind == "adjudicate"]
        fits = _fits(one, wanted, languages, exclude)
        found = _held(session, labeller, fits) or _next(session, one, labeller, languages, fits, rng)
        if found is not None:
            return _give(session, one, found, labeller, rng)
    return None


def _fits(
    project: Project, kinds: Collection[str], languages: Collection[str], exclude: Collection[str]
) -> list[ColumnElement[bool]]:  # fmt: skip
    fits: list[ColumnElement[bool]] = [
        TaskRow.state == "open", TaskRow.flags_count == 0, TaskRow.project_id == project.id, TaskRow.kind.in_(kinds)
    ]  # fmt: skip
    if languages:
        fits.append(TaskRow.language.in_(languages))
    return [*fits, TaskRow.id.not_in(exclude)] if exclude else fits


def _held(session: Session, labeller: str, fits: Sequence[ColumnElement[bool]]) -> TaskRow | None:
    mine = and_(Lease.task_id == TaskRow.id, Lease.labeller == labeller, Lease.expires_at > now())
    query = select(TaskRow).join(Lease, mine).where(*fits).order_by(Lease.expires_at, TaskRow.seq).limit(1)
    return session.scalar(query.with_for_update(of=TaskRow).execution_options(populate_existing=True))


def _next(
    session: Session, project: Project, labeller: str, languages: Collection[str],
    fits: Sequence[ColumnElement[bool]], rng: random.Random,
) -> TaskRow | None:  # fmt: skip
    test = screening.state_of(session, project, labeller, languages)
    if test.failed:
        return None
    if test.open:
        return _take(session, labeller, [*fits, TaskRow.screening.is_(True)])
    plain: list[ColumnElement[bool]] = [*fits, TaskRow.everybody.is_(False)]
    gold: list[ColumnElement[bool]] = [*fits, TaskRow.everybody.is_(True), TaskRow.screening.is_(False)]
    order = (gold, plain) if rng.random() < project.settings.gold_share else (plain, gold)
    for conditions in order:
        if (found := _take(session, labeller, conditions)) is not None:
            return found
    return None


def _free_for(labeller: str) -> list[ColumnElement[bool]]:
    """Tasks with a place left that this labeller has had nothing to do with."""
    labelled = exists().where(
        LabelRow.task_id == TaskRow.id, LabelRow.labeller == labeller, LabelRow.state.in_(("current", "surplus"))
    )
    skipped = exists().where(SkipRow.task_id == TaskRow.id, SkipRow.labeller == labeller)
    # An adjudicator has not labelled the task that is decided.
    party = exists().where(
        LabelRow.task_id == TaskRow.of_task, LabelRow.labeller == labeller, LabelRow.state.in_(("current", "surplus"))
    )
    taken = TaskRow.labels_count + others_leases(TaskRow.id, labeller)
    return [or_(TaskRow.everybody, taken < TaskRow.overlap), ~labelled, ~skipped, ~party]


def _take(session: Session, labeller: str, conditions: Sequence[ColumnElement[bool]]) -> TaskRow | None:
    """The first task that fits, locked. Tasks that others are looking at are passed over at first; at the end they are
    waited for, since one may have a place left."""
    order = (TaskRow.priority.desc(), TaskRow.labels_count, TaskRow.seq)
    seen: list[str] = []
    for waits in (False, True):
        while True:
            query = select(TaskRow.id).where(*conditions, *_free_for(labeller), TaskRow.id.not_in(seen))
            query = query.order_by(*order).limit(1)
            # Whoever waits for a lock must hold no other: rows that do not fit after all are let go at once.
            held = session.begin_nested()
            found = session.scalar(query if waits else query.with_for_update(of=TaskRow, skip_locked=True))
            if found is None:
                held.rollback()
                break
            row = locked(session, found)
            # Leases given just before it was locked are seen by a new query.
            again = select(TaskRow.id).where(TaskRow.id == found, *conditions, *_free_for(labeller))
            if session.scalar(again) is not None:
                held.commit()
                return row
            held.rollback()
            seen.append(found)
    return None


def _give(session: Session, project: Project, task: TaskRow, labeller: str, rng: random.Random) -> Claimed:
    order = list(range(len(task.answers)))
    rng.shuffle(order)
    lease = run_lease(session, task.id, labeller, project.settings.lease_hours * 3600, order)
    return Claimed(task=task.id, expires_at=lease.expires_at, shown_order=tuple(lease.shown_order))


def renew(session: Session, task_id: str, labeller: str) -> float:
    """Keep a place for longer; gives its new end. MissingError when it was never held, ConflictError when it has run out
    and somebody else has taken it."""
    task = locked(session, task_id)
    lease = session.get(Lease, (task_id, labeller), populate_existing=True)
    if lease is None:
        raise MissingError("there is no such task")
    free = task.everybody or task.labels_count + _num_others(session, task_id, labeller) < task.overlap
    if task.state != "open" or (lease.expires_at <= now() and not free):
        message = "your place at this task has run out; what you send is kept, but others count"
        raise ConflictError(message, code="place_expired")
    hours = project_of(session, task.project_id).settings.lease_hours
    return run_lease(session, task_id, labeller, hours * 3600, lease.shown_order).expires_at


def _num_others(session: Session, task_id: str, labeller: str) -> int:
    return session.scalar(select(others_leases(task_id, labeller))) or 0


def release(session: Session, task_id: str, labeller: str) -> None:
    """Give a place back; the task may come again. MissingError when it was never held."""
    locked(session, task_id)
    lease = session.get(Lease, (task_id, labeller), populate_existing=True)
    if lease is None:
        raise MissingError("there is no such task")
    lease.expires_at = 0.0
    session.flush()


def skip(
    session: Session, task_id: str, labeller: str, reason: str = "other", comment: str = "", *, kind: str = "human"
) -> None:
    """Leave a task to others; it does not come again. Raises MissingError."""
    _leave(session, "task.skipped", task_id, labeller, reason, comment, kind)


def flag(
    session: Session, task_id: str, labeller: str, reason: str = "other", comment: str = "", *, kind: str = "human"
) -> None:
    """Something is wrong with a task: nobody gets it until a lead has looked. Raises MissingError."""
    _leave(session, "task.flagged", task_id, labeller, reason, comment, kind)


def _leave(
    session: Session, event: str, task_id: str, labeller: str, reason: str, comment: str, labeller_kind: str
) -> None:  # fmt: skip
    task = locked(session, task_id)
    before = session.get(SkipRow, (task_id, labeller), populate_existing=True)
    if before is None or (event == "task.flagged" and not before.flagged):
        payload = {"comment": comment} if comment.strip() else None
        store.append(
            session,
            NewEvent(
                kind=event, uuid=new_uuid(), actor=labeller, actor_kind=labeller_kind, project=task.project_id,
                task=task.id, data={"reason": reason}, payload=payload, subject=task.subject,
            ),
        )  # fmt: skip
    lease = active_lease(session, task_id, labeller)
    if lease is not None:
        lease.expires_at = 0.0
        session.flush()


def waiting(
    session: Session, labeller: str, *, kinds: Collection[str], languages: Collection[str] = (), project: Project
) -> dict[str, int]:
    """Kind -> tasks that wait for this labeller, at most 1000 in all; those that he holds are among them."""
    fits = _fits(project, list(kinds), languages, ())
    rows = select(TaskRow.kind).where(*fits, *_free_for(labeller)).limit(_MOST_COUNTED).subquery()
    counted: Any = session.execute(select(rows.c.kind, func.count()).group_by(rows.c.kind)).all()
    return dict.fromkeys(kinds, 0) | dict(counted)
