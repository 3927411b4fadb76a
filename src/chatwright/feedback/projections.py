"""What events amount to. One function per kind of event is used when it happens and when everything is rebuilt, so both
give the same rows. Nothing here looks at a clock or draws a number: all that was decided stands in the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from chatwright.feedback import task_search
from chatwright.feedback.tables import (
    GuidelineRow,
    LabelEvent,
    LabelRow,
    MergedRow,
    Payload,
    ProjectRow,
    SkipRow,
    TaskRow,
    TaskText,
)

PROJECTIONS = (ProjectRow, GuidelineRow, TaskRow, TaskText, LabelRow, MergedRow, SkipRow)
_BATCH = 500


def apply(session: Session, event: LabelEvent) -> None:
    """Bring the projections up to date with an event; kinds without an effect are passed over."""
    handler = HANDLERS.get(event.kind)
    if handler is not None:
        handler(session, event)


def rebuild(session: Session) -> None:
    """Throw the projections away and make them anew from the events. Writers wait until the transaction ends."""
    session.flush()
    session.expunge_all()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE label_events IN SHARE ROW EXCLUSIVE MODE"))
    for table in PROJECTIONS:
        session.execute(delete(table).execution_options(synchronize_session=False))
    last = 0
    batch = select(LabelEvent).order_by(LabelEvent.id).limit(_BATCH)
    while events := session.scalars(batch.where(LabelEvent.id > last)).all():
        for event in events:
            apply(session, event)
        last = events[-1].id
        session.flush()
        session.expunge_all()


def _project_created(session: Session, event: LabelEvent) -> None:
    session.add(
        ProjectRow(id=event.project_id, name=event.data["name"], settings=event.data["settings"], created_at=event.at)
    )
    session.flush()


def _project_changed(session: Session, event: LabelEvent) -> None:
    row = session.get_one(ProjectRow, event.project_id)
    row.name = event.data.get("name", row.name)
    row.settings = event.data.get("settings", row.settings)
    if "archived" in event.data:
        row.archived_at = event.at if event.data["archived"] else None
    session.flush()


def _guideline_published(session: Session, event: LabelEvent) -> None:
    kept = session.get(Payload, event.payload_id)
    session.add(
        GuidelineRow(
            id=event.guideline_id, project_id=event.project_id, language=event.data["language"],
            version=event.data["version"], text=(kept.content or {}).get("text", "") if kept else "",
            created_by=event.actor, created_at=event.at,
        )
    )  # fmt: skip
    session.flush()


def _task_created(session: Session, event: LabelEvent) -> None:
    data = event.data
    task = TaskRow(
        id=event.task_id, seq=event.id, project_id=event.project_id, subject=event.subject, created_at=event.at,
        prompt_payload=data.get("prompt") or event.payload_id, state="open", labels_count=0, flags_count=0,
        everybody=data["screening"] or data["gold"] is not None, agreement=None,
        **{name: data[name] for name in TASK_FIELDS},
    )  # fmt: skip
    session.add(task)
    session.flush()
    task_search.index(session, [task])


TASK_FIELDS = (
    "kind", "language", "split", "source", "answers", "gold", "screening", "overlap", "priority", "of_task",
)  # fmt: skip
LABEL_FIELDS = ("value", "seconds", "shown_order", "state", "too_fast", "draft_model", "gold_tau")


def _label_submitted(session: Session, event: LabelEvent) -> None:
    task = session.get_one(TaskRow, event.task_id)
    session.add(
        LabelRow(
            uuid=event.uuid, seq=event.id, task_id=task.id, project_id=task.project_id, labeller=event.actor,
            labeller_kind=event.actor_kind, kind=task.kind, payload_id=event.payload_id, guideline_id=event.guideline_id,
            at=event.at, **{name: event.data[name] for name in LABEL_FIELDS},
            draft_version=event.data.get("draft_version", ""),  # labels of earlier versions of this program lack it
        )
    )  # fmt: skip
    if event.data["state"] == "current":
        _count(task, +1)
    session.flush()
    task.agreement = task_search.agreement(session, task)
    session.flush()
    if event.payload_id:
        task_search.index(session, [task])


def _label_undone(session: Session, event: LabelEvent) -> None:
    label = session.get_one(LabelRow, event.data["label"])
    task = session.get_one(TaskRow, label.task_id)
    if label.state == "current":
        _count(task, -1)
    label.state = "undone"
    session.flush()
    task.agreement = task_search.agreement(session, task)
    session.flush()


def _count(task: TaskRow, change: int) -> None:
    task.labels_count += change
    if task.state in ("open", "complete") and not task.everybody:
        task.state = "complete" if task.labels_count >= task.overlap else "open"


def _task_skipped(session: Session, event: LabelEvent) -> None:
    found = session.get(SkipRow, (event.task_id, event.actor))
    row = found or SkipRow(task_id=event.task_id, labeller=event.actor, flagged=False)
    row.reason, row.payload_id, row.at = event.data["reason"], event.payload_id, event.at
    if event.kind == "task.flagged":
        row.flagged = True
        session.get_one(TaskRow, event.task_id).flags_count += 1
    session.add(row)
    session.flush()


def _task_cleared(session: Session, event: LabelEvent) -> None:
    session.get_one(TaskRow, event.task_id).flags_count = 0
    session.flush()


def _task_closed(session: Session, event: LabelEvent) -> None:
    task = session.get_one(TaskRow, event.task_id)
    task.state, task.flags_count = "closed", 0
    session.flush()


def _prioritised(session: Session, event: LabelEvent) -> None:
    for task_id, priority in event.data["priorities"].items():
        session.get_one(TaskRow, task_id).priority = float(priority)
    session.flush()


def _merged(session: Session, event: LabelEvent) -> None:
    row = session.get(MergedRow, event.task_id) or MergedRow(task_id=event.task_id)
    row.method, row.order, row.detail = event.data["method"], event.data["order"], event.data["detail"]
    row.at = event.at
    session.add(row)
    session.get_one(TaskRow, event.task_id).state = "merged"
    session.flush()


def _withdrawn(session: Session, event: LabelEvent) -> None:
    session.flush()
    tasks = list(event.data["tasks"])
    for start in range(0, len(tasks), _BATCH):
        some = tasks[start : start + _BATCH]
        closed = update(TaskRow).where(TaskRow.subject == event.subject, TaskRow.id.in_(some)).values(state="closed")
        session.execute(closed.execution_options(synchronize_session="fetch"))
    task_search.index_erased(session, event.subject, event.data["payloads"])


HANDLERS: dict[str, Callable[[Session, LabelEvent], Any]] = {
    "project.created": _project_created,
    "project.changed": _project_changed,
    "guideline.published": _guideline_published,
    "task.created": _task_created,
    "task.skipped": _task_skipped,
    "task.flagged": _task_skipped,
    "task.cleared": _task_cleared,
    "task.closed": _task_closed,
    "task.prioritised": _prioritised,
    "label.submitted": _label_submitted,
    "label.undone": _label_undone,
    "label.merged": _merged,
    "content.withdrawn": _withdrawn,
}
