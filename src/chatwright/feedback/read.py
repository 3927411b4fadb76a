"""What is in the store, for those who merge, export, count and browse."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import payloads, values
from chatwright.feedback.tables import LabelRow, MergedRow, TaskRow
from chatwright.feedback.tasks import Answer
from chatwright.records import IN_MEMORY, Conversation, WeakOrder
from chatwright.records.messages import messages_in


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label with what was written."""

    uuid: str
    task: str
    labeller: str
    labeller_kind: str
    """human, simulated or ai."""
    kind: str
    value: Mapping[str, Any]
    """See `feedback.values`; in stored letters."""
    payload: Mapping[str, Any] | None
    """{"messages": [...], "comment": "..."}; None: nothing, or erased."""
    order: WeakOrder | None
    """The order it gives."""
    guideline: str
    seconds: Mapping[str, float]
    shown_order: tuple[int, ...] | None
    state: str
    """current, undone or surplus."""
    too_fast: bool
    draft_model: str
    draft_version: str
    gold_tau: float | None
    at: float


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """A task with everything that hangs on it."""

    row: TaskRow
    """State, kind, language, split, ...: as stored."""
    messages: Conversation
    """Empty for a prompt to be written, or when it was erased."""
    meta: Mapping[str, Any]
    """Of the prompt."""
    answers: tuple[Answer, ...]
    """Texts are empty when they were erased."""
    erased: bool
    """Whether its texts were withdrawn."""
    labels: tuple[Label, ...]
    """All of them, also undone and surplus ones, the oldest first."""
    merged: MergedRow | None
    """What its labels amount to, once they were merged."""
    gold: WeakOrder | None
    """The right order, where it is known."""

    @property
    def current(self) -> tuple[Label, ...]:
        """The labels that count."""
        return tuple(label for label in self.labels if label.state == "current")

    @property
    def merged_order(self) -> WeakOrder | None:
        """The merged order."""
        if self.merged is None:
            return None
        return merged_order(self.merged, len(self.answers))


def merged_order(merged: MergedRow, k: int) -> WeakOrder:
    """The order of a merged task of K answers."""
    ranked = set(merged.order.replace(">", "").replace("=", ""))
    return WeakOrder.parse(merged.order, k, sorted(set(values.letters(range(k))) - ranked))


def task_view(session: Session, task_id: str) -> TaskView:
    """A task. Raises MissingError."""
    row = session.get(TaskRow, task_id)
    if row is None:
        raise MissingError("there is no such task")
    return task_views(session, [row])[0]


def task_views(session: Session, rows: Collection[TaskRow]) -> list[TaskView]:
    """Many tasks, in the same order."""
    ids = [row.id for row in rows]
    labels: dict[str, list[LabelRow]] = {task_id: [] for task_id in ids}
    merged: dict[str, MergedRow] = {}
    for start in range(0, len(ids), 400):
        part = ids[start : start + 400]
        for label in session.scalars(select(LabelRow).where(LabelRow.task_id.in_(part)).order_by(LabelRow.seq)):
            labels[label.task_id].append(label)
        merged |= {one.task_id: one for one in session.scalars(select(MergedRow).where(MergedRow.task_id.in_(part)))}
    wanted = [row.prompt_payload for row in rows] + [answer["payload_id"] for row in rows for answer in row.answers]
    texts = payloads.contents(session, wanted + [label.payload_id for kept in labels.values() for label in kept])
    return [_view(row, labels[row.id], merged.get(row.id), texts) for row in rows]


def _view(
    row: TaskRow, labels: list[LabelRow], merged: MergedRow | None, texts: Mapping[str, Mapping[str, Any]]
) -> TaskView:
    prompt = texts.get(row.prompt_payload)
    given = (prompt or {}).get("messages") or []
    k = len(row.answers)
    answers = [
        Answer(
            text=texts.get(one["payload_id"], {}).get("text", ""), model=one["model"], finish_reason=one["finish_reason"],
            model_version=one.get("model_version", ""), meta=texts.get(one["payload_id"], {}).get("meta", {}),
        )
        for one in row.answers
    ]  # fmt: skip
    return TaskView(
        row=row, messages=messages_in(given, "messages", IN_MEMORY) if given else (), meta=(prompt or {}).get("meta", {}),
        answers=tuple(answers), erased=prompt is None, merged=merged,
        labels=tuple(_label(label, k, texts) for label in labels),
        gold=WeakOrder.parse(row.gold["ranking"], k, row.gold["unranked"]) if row.gold else None,
    )  # fmt: skip


def _label(row: LabelRow, k: int, texts: Mapping[str, Mapping[str, Any]]) -> Label:
    return Label(
        uuid=row.uuid, task=row.task_id, labeller=row.labeller, labeller_kind=row.labeller_kind, kind=row.kind,
        value=row.value, payload=texts.get(row.payload_id), order=values.order_of(row.kind, row.value, k),
        guideline=row.guideline_id, seconds=row.seconds, state=row.state, too_fast=row.too_fast,
        shown_order=tuple(row.shown_order) if row.shown_order else None, draft_model=row.draft_model,
        draft_version=row.draft_version,
        gold_tau=row.gold_tau, at=row.at,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GivenRanking:
    """An order somebody gave, without texts: what statistics read."""

    uuid: str
    task: str
    kind: str
    """rank, compare or adjudicate."""
    labeller: str
    labeller_kind: str
    order: WeakOrder
    seconds: Mapping[str, float]
    state: str
    """Of the task: open, complete, merged, closed."""
    language: str
    everybody: bool
    """A gold or screening task."""
    gold_tau: float | None
    too_fast: bool
    at: float


def rankings_of(
    session: Session, project: str = "", *, kinds: Collection[str] = ("rank", "compare"),
    labeller_kinds: Collection[str] = (), labellers: Collection[str] = (), tasks: Collection[str] = (),
) -> list[GivenRanking]:  # fmt: skip
    """The orders that count, the oldest first; of one project or ("") of all. Empty filters let everything pass."""
    query = (
        select(LabelRow, TaskRow.state, TaskRow.language, TaskRow.everybody, TaskRow.answers)
        .join(TaskRow, TaskRow.id == LabelRow.task_id)
        .where(LabelRow.state == "current", LabelRow.kind.in_(kinds))
        .order_by(LabelRow.seq)
    )
    if project:
        query = query.where(LabelRow.project_id == project)
    if labeller_kinds:
        query = query.where(LabelRow.labeller_kind.in_(labeller_kinds))
    if labellers:
        query = query.where(LabelRow.labeller.in_(labellers))
    if tasks:
        query = query.where(LabelRow.task_id.in_(tasks))
    found = []
    for row, state, language, everybody, answers in session.execute(query):
        order = values.order_of(row.kind, row.value, len(answers))
        if order is not None:
            found.append(
                GivenRanking(
                    uuid=row.uuid, task=row.task_id, kind=row.kind, labeller=row.labeller, labeller_kind=row.labeller_kind,
                    order=order, seconds=row.seconds, state=state, language=language, everybody=everybody,
                    gold_tau=row.gold_tau, too_fast=row.too_fast, at=row.at,
                )  # fmt: skip
            )
    return found
