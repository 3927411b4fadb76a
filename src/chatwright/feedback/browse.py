"""The data browser: tasks by filters, and one task with everything about it.

The database filters, counts and cuts pages. Only agreement and text are looked at here, because both stand inside JSON:
their filters read every task that the others let through.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import payloads
from chatwright.feedback.agreement import item_agreement
from chatwright.feedback.dashboard import COMPARED
from chatwright.feedback.tables import LabelEvent, LabelRow, MergedRow, Payload, TaskRow
from chatwright.feedback.values import order_of
from chatwright.records import LETTERS, WeakOrder

START_CHARS = 160
_AT_ONCE = 400  # SQLite takes a limited number of values in a statement


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
    """Tasks that fit the filters."""
    offset: int


@dataclass(frozen=True, kw_only=True)
class BrowsedAnswer:
    """An answer of a task."""

    letter: str
    text: str | None
    """None: erased."""
    model: str
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


def browse(session: Session, filters: Filters, *, offset: int = 0, limit: int = 50) -> BrowsePage:
    """A page of the tasks that fit, the newest first."""
    if not filters.text and filters.agreement_below is None:
        total = session.scalar(_filtered(select(func.count(TaskRow.id)), filters)) or 0
        page = _filtered(select(TaskRow.id), filters).order_by(TaskRow.seq.desc()).offset(offset).limit(limit)
        return BrowsePage(tasks=_tasks(session, session.scalars(page).all()), total=total, offset=offset)
    columns = select(TaskRow.id, TaskRow.prompt_payload, TaskRow.answers)
    rows: Sequence[Any] = session.execute(_filtered(columns, filters).order_by(TaskRow.seq.desc())).all()
    if filters.text:
        held = _holding(session, filters.text)
        by_label = _labelled_with(session, held)
        rows = [
            row for row in rows
            if row.prompt_payload in held or row.id in by_label or any(a["payload_id"] in held for a in row.answers)
        ]  # fmt: skip
    if filters.agreement_below is not None:
        found = _agreement(session, [(row.id, len(row.answers)) for row in rows])
        rows = [row for row in rows if (value := found.get(row.id)) is not None and value < filters.agreement_below]
    shown = [row.id for row in rows[offset : offset + limit]]
    return BrowsePage(tasks=_tasks(session, shown), total=len(rows), offset=offset)


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
                model=a.get("model", ""), finish_reason=a.get("finish_reason", ""),
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
        draft_model=label.draft_model, gold_tau_b=label.gold_tau, at=label.at,
    )  # fmt: skip


# ---- filters -----------------------------------------------------------------------------------------------


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    """Rows of tasks that fit all filters but text and agreement."""
    columns = {
        "project": TaskRow.project_id, "kind": TaskRow.kind, "state": TaskRow.state, "language": TaskRow.language,
        "split": TaskRow.split, "source": TaskRow.source,
    }  # fmt: skip
    for name, column in columns.items():
        if value := getattr(filters, name):
            query = query.where(column == value)
    if filters.flagged is not None:
        query = query.where(TaskRow.flags_count > 0 if filters.flagged else TaskRow.flags_count == 0)
    if filters.model:
        query = query.where(cast(TaskRow.answers, Text).contains(f'"model": {json.dumps(filters.model)}', autoescape=True))
    if filters.labeller or filters.labeller_kind or filters.flag:
        label = select(LabelRow.task_id).where(LabelRow.state != "undone")
        if filters.labeller:
            label = label.where(LabelRow.labeller == filters.labeller)
        if filters.labeller_kind:
            label = label.where(LabelRow.labeller_kind == filters.labeller_kind)
        if filters.flag:
            label = label.where(cast(LabelRow.value, Text).contains(json.dumps(filters.flag), autoescape=True))
        query = query.where(TaskRow.id.in_(label))
    return query


def _holding(session: Session, text: str) -> set[str]:
    """Payloads with a text that contains `text`. The database looks through the JSON as it is stored (with escapes, and
    with names of fields), and what it finds is looked at again."""
    pattern = json.dumps(text)[1:-1].lower()
    stored = func.lower(cast(Payload.content, Text))
    query = select(Payload.id, Payload.content).where(stored.contains(pattern, autoescape=True))
    wanted = text.casefold()
    return {name for name, content in session.execute(query) if any(wanted in one.casefold() for one in _texts(content))}


def _texts(content: Any) -> Iterable[str]:
    """What somebody wrote or said in a payload."""
    if isinstance(content, Mapping):
        yield from (str(content[name]) for name in ("text", "comment") if isinstance(content.get(name), str))
        yield from (str(m.get("content", "")) for m in content.get("messages") or () if isinstance(m, Mapping))


def _labelled_with(session: Session, held: set[str]) -> set[str]:
    """Tasks with a label whose payload is one of `held`."""
    found: set[str] = set()
    names = sorted(held)
    for start in range(0, len(names), _AT_ONCE):
        some = select(LabelRow.task_id).where(LabelRow.payload_id.in_(names[start : start + _AT_ONCE]))
        found.update(session.scalars(some))
    return found


def _agreement(session: Session, tasks: Sequence[tuple[str, int]]) -> dict[str, float | None]:
    """Agreement of tasks (id, number of answers) that have two rankings or more."""
    sizes = dict(tasks)
    orders: dict[str, dict[str, WeakOrder]] = {}
    names = list(sizes)
    for start in range(0, len(names), _AT_ONCE):
        labels = select(LabelRow).where(
            LabelRow.task_id.in_(names[start : start + _AT_ONCE]), LabelRow.state == "current", LabelRow.kind.in_(COMPARED)
        )
        for label in session.scalars(labels):
            if (order := order_of(label.kind, label.value, sizes[label.task_id])) is not None:
                orders.setdefault(label.task_id, {})[label.labeller] = order
    return {name: item_agreement(item) for name, item in orders.items()}


def _tasks(session: Session, names: Sequence[str]) -> list[BrowsedTask]:
    rows = {row.id: row for row in session.scalars(select(TaskRow).where(TaskRow.id.in_(names)))}
    merged = {row.task_id: row.order for row in session.scalars(select(MergedRow).where(MergedRow.task_id.in_(names)))}
    kept = payloads.contents(session, [row.prompt_payload for row in rows.values()])
    agreed = _agreement(session, [(row.id, len(row.answers)) for row in rows.values()])
    found = []
    for row in (rows[name] for name in names):
        messages = kept.get(row.prompt_payload, {}).get("messages") or []
        found.append(
            BrowsedTask(
                id=row.id, project=row.project_id, kind=row.kind, state=row.state, language=row.language, split=row.split,
                source=row.source, screening=row.screening, gold=row.gold is not None, num_answers=len(row.answers),
                labels=row.labels_count, overlap=row.overlap, flagged=row.flags_count, agreement=agreed.get(row.id),
                ranking=merged.get(row.id), start=messages[-1]["content"][:START_CHARS] if messages else "",
                erased=bool(row.prompt_payload) and row.prompt_payload not in kept, created_at=row.created_at,
            )
        )  # fmt: skip
    return found
