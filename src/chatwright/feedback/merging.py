"""Complete ranking tasks -> one order each, or a task for an adjudicator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from chatwright.errors import DataError
from chatwright.feedback import tasks
from chatwright.feedback.dashboard import items_of, labels_of
from chatwright.feedback.merge import Merged, Method, merge, needs_adjudication
from chatwright.feedback.projects import project_of
from chatwright.feedback.reliability import reliabilities, weights_of
from chatwright.feedback.tables import TaskRow
from chatwright.feedback.task_search import COMPARED
from chatwright.records import WeakOrder
from chatwright.workspace.database import Workspace

WEIGHTED = ("bradley_terry", "plackett_luce")
"""Methods in which labellers count by their reliability."""
_AT_ONCE = 50  # tasks in one transaction


@dataclass(frozen=True, kw_only=True)
class MergeCounts:
    """What merging a project did."""

    merged: int
    adjudicate: int
    """Tasks newly sent to an adjudicator."""
    waiting: int
    """Tasks whose adjudicator has not decided yet."""
    unjudged: int
    """Tasks closed without an order, because nobody could judge them."""
    cycles: int
    """Tasks whose labellers' majorities went in a circle."""
    method: str


def merge_project(
    workspace: Workspace, project_id: str, *, actor: str, method: Method | None = None, adjudicate_below: float | None = None
) -> MergeCounts:
    """Merge every complete ranking and comparison that is not merged yet.

    Where the labellers agree on less than `adjudicate_below` of the pairs, or go in a circle, a task for an adjudicator is
    added; the order he gives becomes the merged one when he submits it. `method`, `adjudicate_below`: None for the
    project's. Calling it twice does nothing the second time. A transaction holds some tasks only, so that labellers need
    not wait for a large project; what was decided stays when the rest fails. Raises MissingError, DataError.
    """
    with workspace.reading() as session:
        settings = project_of(session, project_id).settings
        name = settings.merge_method if method is None else method
        if name not in get_args(Method):
            raise DataError(f"merge method {name!r} is not one of {', '.join(get_args(Method))}")
        waiting: Sequence[str] = session.scalars(_complete(project_id).order_by(TaskRow.seq)).all()
        weights: Mapping[str, float] = {}
        if waiting and name in WEIGHTED:
            weights = weights_of(reliabilities(list(items_of(labels_of(session, project_id)).values())))
    below = settings.adjudicate_below if adjudicate_below is None else adjudicate_below
    counts: Counter[str] = Counter()
    for start in range(0, len(waiting), _AT_ONCE):
        with workspace.session() as session:
            counts += _some(session, project_id, waiting[start : start + _AT_ONCE], name, below, weights, actor)
    return MergeCounts(
        merged=counts["merged"], adjudicate=counts["adjudicate"], waiting=counts["waiting"], unjudged=counts["unjudged"],
        cycles=counts["cycles"], method=name,
    )  # fmt: skip


def _complete(project_id: str) -> Select[Any]:
    return select(TaskRow.id).where(
        TaskRow.project_id == project_id, TaskRow.kind.in_(COMPARED), TaskRow.state == "complete",
        TaskRow.everybody.is_(False),
    )  # fmt: skip


def _some(
    session: Session, project_id: str, task_ids: Sequence[str], method: str, below: float, weights: Mapping[str, float],
    actor: str,
) -> Counter[str]:  # fmt: skip
    """Decide about some tasks, as they are now: labels may have been taken back since they were listed."""
    held = select(TaskRow).where(TaskRow.id.in_(task_ids), TaskRow.state == "complete").order_by(TaskRow.id)
    rows = session.scalars(held.with_for_update(of=TaskRow)).all()
    items = items_of(labels_of(session, project_id, tasks=task_ids))
    asked = select(TaskRow.of_task, TaskRow.state).where(TaskRow.of_task.in_(task_ids))
    adjudications = {row.of_task: row.state for row in session.execute(asked)}
    counts: Counter[str] = Counter()
    for task in sorted(rows, key=lambda row: row.seq):
        merged = _merged(items.get(task.id, {}), method, weights)
        counts["cycles"] += merged is not None and bool(merged.cycle)
        counts[_decide(session, task, merged, below, adjudications.get(task.id), actor)] += 1
    return counts


def _merged(orders: Mapping[str, WeakOrder], method: Any, weights: Mapping[str, float]) -> Merged | None:
    return merge(list(orders.items()), method, weights=weights) if orders else None


def _decide(
    session: Session, task: TaskRow, merged: Merged | None, below: float, adjudication: str | None, actor: str
) -> str:
    """What becomes of one task. `adjudication`: the state of its adjudication; None: there is none."""
    if adjudication == "open":
        return "waiting"
    if merged is None or adjudication is not None:  # nobody could judge it, or the adjudicator could not
        tasks.close(session, task.id, actor=actor)
        return "unjudged"
    if needs_adjudication(merged, below=below):
        tasks.adjudicate(session, task.id, actor=actor)
        return "adjudicate"
    detail = {**merged.detail, "agreement": merged.agreement}
    tasks.record_merge(session, task=task.id, method=merged.detail["method"], order=merged.order, detail=detail, actor=actor)
    return "merged"
