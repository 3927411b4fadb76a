"""The store: events are added and never changed; the same event twice is one. Texts can be erased.

Every function takes an open session of `Workspace.session()` and leaves the transaction to its caller: what it did is
durable when that session has ended.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chatwright.errors import ConflictError
from chatwright.feedback import payloads, projections
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.payloads import content
from chatwright.feedback.projections import rebuild
from chatwright.feedback.tables import DraftRow, LabelEvent, Payload, TaskRow
from chatwright.workspace.database import Workspace, now
from chatwright.workspace.text_search import purge

__all__ = ["append", "content", "erase", "find", "hold_subject", "live_texts", "rebuild", "scrub"]


def append(session: Session, event: NewEvent) -> LabelEvent:
    """Write an event down and bring the projections up to date; the same event again gives the stored one.
    ConflictError when another event has this uuid."""
    data = payloads.plain(event.data, f"event {event.kind}")
    stored = find(session, event.uuid)
    if stored is None:
        row = LabelEvent(
            uuid=event.uuid, kind=event.kind, at=now(), actor=event.actor, actor_kind=event.actor_kind,
            project_id=event.project, task_id=event.task, guideline_id=event.guideline, data=data, subject=event.subject,
            payload_id="",
        )  # fmt: skip
        try:
            with session.begin_nested():
                if event.payload is not None:
                    row.payload_id = payloads.keep(session, event.payload, subject=event.subject)
                session.add(row)
                session.flush()
        except IntegrityError:
            stored = find(session, event.uuid)  # somebody reported it at the same time
            if stored is None:
                raise
        else:
            projections.apply(session, row)
            return row
    _check_same(session, stored, event, data)
    return stored


def find(session: Session, uuid: str) -> LabelEvent | None:
    """The event of this uuid."""
    return session.scalar(select(LabelEvent).where(LabelEvent.uuid == uuid))


def _check_same(session: Session, stored: LabelEvent, event: NewEvent, data: dict[str, Any]) -> None:
    given = (event.kind, event.actor, event.actor_kind, event.project, event.task, event.guideline, event.subject)
    kept = (
        stored.kind, stored.actor, stored.actor_kind, stored.project_id, stored.task_id, stored.guideline_id, stored.subject
    )  # fmt: skip
    if given != kept or data != stored.data or not same_payload(session, stored, event.payload):
        raise ConflictError(f"uuid {event.uuid}: another event with this uuid is stored; use a new one")


def same_payload(session: Session, stored: LabelEvent, given: Any) -> bool:
    """Whether an event came with this text. Of an erased one nobody knows, so it counts as the same."""
    if (given is None) != (stored.payload_id == ""):
        return False
    kept = content(session, stored.payload_id)
    return given is None or kept is None or kept == payloads.plain(given, "payload")


def live_texts(subject: str, before: float = math.inf) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `Payload`: a person's texts that are not erased and came before a time."""
    mine = (Payload.subject == subject, Payload.erased_at.is_(None))
    return (*mine, Payload.created_at <= before) if math.isfinite(before) else mine


def hold_subject(session: Session, subject: str) -> None:
    """On PostgreSQL: what concerns a person happens one after another, in the order of the events. SQLite has one
    writer anyway."""
    if subject and session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(zlib.crc32(subject.encode()))))


def erase(session: Session, subject: str, *, actor: str, before: float = math.inf) -> int:
    """Withdrawal: empty every text of, and derived from, a person; close the tasks made of them; leave a tombstone event
    with the ids. `before`: only tasks of until then (seconds since 1970), with what was written for them. Returns the number
    of texts erased now. Backups made before still hold them (`withdrawals.py`)."""
    assert subject, "the empty subject means texts of nobody in particular"
    hold_subject(session, subject)
    of_person: tuple[ColumnElement[bool], ...] = (TaskRow.subject == subject,)
    if math.isfinite(before):
        of_person = (*of_person, TaskRow.created_at <= before)
    tasks = session.scalars(select(TaskRow.id).where(*of_person).order_by(TaskRow.seq).with_for_update()).all()
    live = live_texts(subject, before)
    erased = session.scalars(select(Payload.id).where(*live).order_by(Payload.id)).all()
    empty = update(Payload).where(*live)
    session.execute(empty.values(content=None, erased_at=now()).execution_options(synchronize_session="fetch"))
    mine = select(TaskRow.id).where(*of_person)
    session.execute(delete(DraftRow).where(DraftRow.task_id.in_(mine)).execution_options(synchronize_session="fetch"))
    data = {"payloads": list(erased), "tasks": list(tasks)}
    append(session, NewEvent(kind="content.withdrawn", uuid=new_uuid(), actor=actor, subject=subject, data=data))
    return len(erased)


def scrub(workspace: Workspace) -> None:
    """After `erase`: on SQLite, let nothing of what was erased stay in the search's index and the write-ahead log. Readers
    that are at work may keep it in the log until the next time; PostgreSQL frees it by itself (VACUUM), its own log with its
    checkpoints."""
    if workspace.is_sqlite:
        purge(workspace)
        connection = workspace.engine.raw_connection()  # ours begin a transaction, in which there are no checkpoints
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
