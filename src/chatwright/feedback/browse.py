"""The data browser: tasks by filters, and one task with everything about it.

The database filters, counts and cuts pages. A search for a text collects or reads a bounded number of tasks at a time
(`task_search`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import payloads, task_search
from chatwright.feedback.tables import LabelEvent, LabelRow, MergedRow, TaskRow
from chatwright.records import LETTERS

START_CHARS = 160


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tasks to show; an empty one lets everything through."""

    project: str = ""
    kind: str = ""
    state: str = ""
    language: str = ""
    split: str = ""
    source: str = ""
    labeller: str = ""
    labeller_kind: str = ""
    model: str = ""
    """A model that gave one of the answers."""
    flag: str = ""
    """A flag that a labeller gave to an answer."""
    flagged: bool | None = None
    """Tasks that labellers reported and nobody has looked at."""
    text: str = ""
    """Words of the prompt, an answer, a demonstration or a comment, in any case."""
    agreement_below: float | None = None


@dataclass(frozen=True, kw_only=True)
class BrowsedTask:
    """A task in the list."""

    id: str
    project: str
    kind: str
    state: str
    """open, complete, merged or closed."""
    language: str
    split: str
    source: str
    screening: bool
    gold: bool
    num_answers: int
    labels: int
    overlap: int
    flagged: int
    """Reports that nobody has looked at."""
    agreement: float | None
    """Share of pairs on which its labellers agree; None with fewer than two rankings."""
    ranking: str | None
    """The merged ranking."""
    start: str
    """Beginning of the last message; empty when it was erased."""
    erased: bool
    created_at: float


@dataclass(frozen=True, kw_only=True)
class BrowsePage:
    """Some tasks, the newest first."""

    tasks: list[BrowsedTask]
    total: int
    """Tasks that fit the filters, among those that were searched."""
    offset: int
    next_older: int | None
    """A search for a text ends after a bounded number of tasks; `older_than` with this number continues it. None: it went
    through all tasks."""


@dataclass(frozen=True, kw_only=True)
class BrowsedAnswer:
    """An answer of a task."""

    letter: str
    text: str | None
    """None: erased."""
    model: str
    model_version: str
    """Content hash of the model; empty: unknown."""
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class BrowsedLabel:
    """A label of a task."""

    uuid: str
    labeller: str
    labeller_kind: str
    kind: str
    state: str
    """current, undone or surplus."""
    value: dict[str, Any]
    content: dict[str, Any] | None
    """What was written (a demonstration, a comment); None: nothing, or erased."""
    guideline: str
    seconds: dict[str, float]
    shown_order: str
    """Letters in the order they were shown; empty when that is not known."""
    too_fast: bool
    draft_model: str
    draft_version: str
    """Content hash of that model; empty: unknown."""
    gold_tau_b: float | None
    at: float


@dataclass(frozen=True, kw_only=True)
class MergedInfo:
    """How a task was merged."""

    method: str
    order: str
    detail: dict[str, Any]
    at: float


@dataclass(frozen=True, kw_only=True)
class BrowsedEvent:
    """Something that happened to a task."""

    kind: str
    """task.created, label.submitted, ..."""
    at: float
    actor: str
    actor_kind: str


@dataclass(frozen=True, kw_only=True)
class TaskDetail:
    """A task with everything a lead may see."""

    task: BrowsedTask
    messages: list[dict[str, str]]
    """Empty when erased."""
    meta: dict[str, Any]
    """What came with the prompt."""
    answers: list[BrowsedAnswer]
    gold: str | None
    labels: list[BrowsedLabel]
    merged: MergedInfo | None
    of_task: str
    """For an adjudication: the task whose labels disagree."""
    events: list[BrowsedEvent]
    """All that happened to it, the oldest first."""


def browse(
    session: Session, filters: Filters, *, offset: int = 0, limit: int = 50, older_than: int | None = None
) -> BrowsePage:  # fmt: skip
    """A page of the tasks that fit, the newest first. `older_than`: `next_older` of the search before."""
    conditions, next_older = _conditions(filters), None
    if filters.text:
        held, next_older = task_search.holding(session, filters.text, older_than)
        conditions.append(TaskRow.seq.in_(held))
    total = session.scalar(select(func.count(TaskRow.id)).where(*conditions)) or 0
    page = select(TaskRow.id).where(*conditions).order_by(TaskRow.seq.desc()).offset(offset).limit(limit)
    found = _tasks(session, session.scalars(page).all())
    return BrowsePage(tasks=found, total=total, offset=offset, next_older=next_older)


def task_detail(session: Session, task_id: str) -> TaskDetail:
    """Everything about a task. MissingError."""
    task = session.get(TaskRow, task_id)
    if task is None:
        raise MissingError("there is no such task")
    labels = session.scalars(select(LabelRow).where(LabelRow.task_id == task_id).order_by(LabelRow.seq)).all()
    kept = payloads.contents(
        session, [task.prompt_payload, *(a["payload_id"] for a in task.answers), *(label.payload_id for label in labels)]
    )
    merged = session.get(MergedRow, task_id)
    prompt = kept.get(task.prompt_payload, {})
    return TaskDetail(
        task=_tasks(session, [task_id])[0],
        messages=prompt.get("messages", []),
        meta=prompt.get("meta") or {},
        answers=[
            BrowsedAnswer(
                letter=LETTERS[n], text=kept[a["payload_id"]].get("text", "") if a["payload_id"] in kept else None,
                model=a.get("model", ""), model_version=a.get("model_version", ""), finish_reason=a.get("finish_reason", ""),
            )
            for n, a in enumerate(task.answers)
        ],
        gold=task.gold["ranking"] if task.gold else None,
        labels=[_label(label, kept) for label in labels],
        merged=None if merged is None
        else MergedInfo(method=merged.method, order=merged.order, detail=merged.detail, at=merged.at),
        of_task=task.of_task,
        events=_events(session, task_id),
    )  # fmt: skip


def _events(session: Session, task_id: str) -> list[BrowsedEvent]:
    rows = session.scalars(select(LabelEvent).where(LabelEvent.task_id == task_id).order_by(LabelEvent.id))
    return [BrowsedEvent(kind=row.kind, at=row.at, actor=row.actor, actor_kind=row.actor_kind) for row in rows]


def _label(label: LabelRow, kept: Mapping[str, dict[str, Any]]) -> BrowsedLabel:
    return BrowsedLabel(
        uuid=label.uuid, labeller=label.labeller, labeller_kind=label.labeller_kind, kind=label.kind, state=label.state,
        value=label.value, content=kept.get(label.payload_id), guideline=label.guideline_id, seconds=label.seconds,
        shown_order="".join(LETTERS[i] for i in label.shown_order or ()), too_fast=label.too_fast,
        draft_model=label.draft_model, draft_version=label.draft_version, gold_tau_b=label.gold_tau, at=label.at,
    )  # fmt: skip


# ---- filters -----------------------------------------------------------------------------------------------


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """Conditions on tasks for all filters but text."""
    found: list[ColumnElement[bool]] = []
    columns = {
        "project": TaskRow.project_id, "kind": TaskRow.kind, "state": TaskRow.state, "language": TaskRow.language,
        "split": TaskRow.split, "source": TaskRow.source,
    }  # fmt: skip
    for name, column in columns.items():
        if value := getattr(filters, name):
            found.append(column == value)
    if filters.flagged is not None:
        found.append(TaskRow.flags_count > 0 if filters.flagged else TaskRow.flags_count == 0)
    if filters.agreement_below is not None:
        found.append(TaskRow.agreement < filters.agreement_below)
    if filters.model:
        found.append(cast(TaskRow.answers, Text).contains(f'"model": {json.dumps(filters.model)}', autoescape=True))
    if filters.labeller or filters.labeller_kind or filters.flag:
        label = select(LabelRow.task_id).where(LabelRow.state != "undone")
        if filters.labeller:
            label = label.where(LabelRow.labeller == filters.labeller)
        if filters.labeller_kind:
            label = label.where(LabelRow.labeller_kind == filters.labeller_kind)
        if filters.flag:
            label = label.where(cast(LabelRow.value, Text).contains(json.dumps(filters.flag), autoescape=True))
        found.append(TaskRow.id.in_(label))
    return found


def _tasks(session: Session, names: Sequence[str]) -> list[BrowsedTask]:
    rows = {row.id: row for row in session.scalars(select(TaskRow).where(TaskRow.id.in_(names)))}
    merged = {row.task_id: row.order for row in session.scalars(select(MergedRow).where(MergedRow.task_id.in_(names)))}
    kept = payloads.contents(session, [row.prompt_payload for row in rows.values()])
    found = []
    for row in (rows[name] for name in names):
        messages = kept.get(row.prompt_payload, {}).get("messages") or []
        found.append(
            BrowsedTask(
                id=row.id, project=row.project_id, kind=row.kind, state=row.state, language=row.language, split=row.split,
                source=row.source, screening=row.screening, gold=row.gold is not None, num_answers=len(row.answers),
                labels=row.labels_count, overlap=row.overlap, flagged=row.flags_count, agreement=row.agreement,
                ranking=merged.get(row.id), start=messages[-1]["content"][:START_CHARS] if messages else "",
                erased=bool(row.prompt_payload) and row.prompt_payload not in kept, created_at=row.created_at,
            )
        )  # fmt: skip
    return found
