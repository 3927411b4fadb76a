"""From the store to what a labeller sees: answers in the order of his screen, without what he must not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import payloads, projects, queue, read, screening, values
from chatwright.feedback.tables import DraftRow, LabellerRow, LabelRow, Lease, TaskRow
from chatwright.records import LETTERS
from chatwright.serve.auth import ROLES, Principal
from chatwright.serve.desk import wire
from chatwright.workspace.database import now

START = 160  # characters of a list's line
_DAY_S = 86_400


def kinds_for(who: Principal) -> list[str]:
    """Kinds of tasks somebody gets: adjudications are for leads."""
    is_lead = ROLES.index(who.role) >= ROLES.index("lead")
    return [kind for kind in values.KINDS if kind != "adjudicate" or is_lead]


def lease_of(session: Session, task_id: str, labeller: str) -> Lease:
    """The place somebody has, or had, at a task; MissingError: to him there is no such task."""
    lease = session.get(Lease, (task_id, labeller))
    if lease is None:
        raise MissingError("there is no such task")
    return lease


def languages_of(session: Session, labeller: str) -> list[str]:
    """Languages a labeller chose; empty: any."""
    row = session.get(LabellerRow, labeller)
    return list(row.languages) if row is not None else []


def task(session: Session, task_id: str, labeller: str) -> wire.Task:
    """A task as its labeller sees it."""
    lease = lease_of(session, task_id, labeller)
    view = read.task_view(session, task_id)
    row = view.row
    project = projects.project_of(session, row.project_id)
    guideline = projects.guideline_for(session, project.id, row.language)
    return wire.Task(
        id=row.id, project=project.id, project_name=project.name, kind=row.kind,  # type: ignore[arg-type]
        language=row.language, messages=[wire.Turn.model_construct(role=m.role, content=m.content) for m in view.messages],
        answers=_answers(view.answers, lease.shown_order), guideline=guideline.id if guideline else "",
        rate_first=project.settings.rate_first, allow_unranked=project.settings.allow_unranked,
        model_draft=project.settings.model_draft and row.kind == "demonstrate",
        style=str(view.meta.get("style", "plain")) if row.kind == "prompt" else "",
        too_fast_s=project.settings.too_fast_s, expires_at=lease.expires_at, draft=draft(session, task_id, labeller),
        others=_others(session, row, lease.shown_order),
    )  # fmt: skip


def _answers(answers: Sequence[queue.Answer], shown_order: Sequence[int]) -> list[wire.TaskAnswer]:
    shown = [answers[n] for n in shown_order]
    return [
        wire.TaskAnswer(letter=LETTERS[place], text=one.text, finish_reason=one.finish_reason)
        for place, one in enumerate(shown)
    ]


def _others(session: Session, row: TaskRow, shown_order: Sequence[int]) -> list[wire.OtherLabel]:
    if not row.of_task:
        return []
    found = []
    for label in read.task_view(session, row.of_task).current:
        if label.order is None:
            continue
        value = {"ranking": str(label.order), "unranked": list(label.order.unranked)}
        seen = values.to_screen("rank", value, shown_order)
        comment = str((label.payload or {}).get("comment", ""))
        found.append(wire.OtherLabel(labeller_kind=label.labeller_kind, comment=comment, **seen))
    return found


def draft(session: Session, task_id: str, labeller: str) -> wire.Draft | None:
    """Unfinished work; None when there is none."""
    row = session.get(DraftRow, (task_id, labeller))
    return None if row is None else wire.Draft(revision=row.revision, content=row.content)


def counts(session: Session, who: Principal, chosen: Sequence[projects.Project], languages: Sequence[str]) -> wire.Counts:
    """How a labeller stands in some projects; the test is that of the first in which it is open or failed."""
    made = (LabelRow.labeller == who.id, LabelRow.state != "undone")
    midnight = now() // _DAY_S * _DAY_S
    tests = [screening.state_of(session, one, who.id, languages) for one in chosen]
    test = next((one for one in tests if one.open or one.failed), None) or next(iter(tests), None)
    shown = wire.Screening(required=False, done=0, total=0, passed=None)
    if test is not None:
        shown = wire.Screening(required=test.required, done=test.done, total=test.total, passed=test.passed)
    waiting = [
        queue.waiting(session, who.id, kinds=kinds_in(one, who), languages=languages, project=one) for one in chosen
    ]
    return wire.Counts(
        today=session.scalar(select(func.count()).select_from(LabelRow).where(*made, LabelRow.at >= midnight)) or 0,
        total=session.scalar(select(func.count()).select_from(LabelRow).where(*made)) or 0,
        left=min(1000, sum(sum(one.values()) for one in waiting)), screening=shown,
    )  # fmt: skip


def kinds_in(project: projects.Project, who: Principal) -> list[str]:
    """Kinds of tasks somebody gets in a project."""
    return [kind for kind in kinds_for(who) if kind in project.settings.kinds or kind == "adjudicate"]


def value_of(kind: str, value: Mapping[str, Any], shown_order: Sequence[int] | None) -> wire.Value:
    """A stored value in letters of the screen."""
    seen = values.to_screen(kind, value, shown_order) if shown_order else dict(value)
    return wire.Value(**{name: one for name, one in seen.items() if name != "contradictions"})


def written_of(payload: Mapping[str, Any] | None) -> wire.Written | None:
    """What was written."""
    if payload is None:
        return None
    turns = [wire.Turn.model_construct(**turn) for turn in payload.get("messages", [])]
    return wire.Written.model_construct(messages=turns, comment=payload.get("comment", ""))


def my_labels(session: Session, labeller: str, project: str, offset: int, limit: int) -> wire.MyLabels:
    """Labels of one person, the newest first."""
    query = select(LabelRow, TaskRow).join(TaskRow, TaskRow.id == LabelRow.task_id).where(LabelRow.labeller == labeller)
    if project:
        query = query.where(LabelRow.project_id == project)
    rows = session.execute(query.order_by(LabelRow.seq.desc()).offset(offset).limit(limit + 1)).all()
    found = [(label, row) for label, row in rows[:limit]]
    texts = payloads.contents(session, [one for label, row in found for one in (label.payload_id, row.prompt_payload)])
    names = {one.id: one.name for one in projects.projects(session, archived=True)}
    labels = [_mine(label, row, texts, names) for label, row in found]
    return wire.MyLabels(labels=labels, more=len(rows) > limit)


def _mine(
    label: LabelRow, row: TaskRow, texts: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> wire.MyLabel:
    said = texts.get(row.prompt_payload, {}).get("messages") or [{"content": ""}]
    can_undo = label.state != "undone" and row.state in ("open", "complete")
    return wire.MyLabel(
        uuid=label.uuid, task=row.id, project=row.project_id, project_name=names[row.project_id],
        kind=row.kind, language=row.language, at=label.at, state=label.state,  # type: ignore[arg-type]
        value=value_of(row.kind, label.value, label.shown_order), payload=written_of(texts.get(label.payload_id)),
        start=said[-1]["content"][:START], can_undo=can_undo and not (row.of_task and label.state == "current"),
    )  # fmt: skip
