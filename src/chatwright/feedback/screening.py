"""The test before the first task, and gold: rankings whose right order is known, scored by Kendall's tau-b."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from chatwright.feedback.agreement import kendall_tau_b
from chatwright.feedback.projects import Project
from chatwright.feedback.tables import LabelRow, SkipRow, TaskRow
from chatwright.records import WeakOrder


@dataclass(frozen=True, kw_only=True)
class ScreeningState:
    """How far somebody is with the test."""

    required: bool
    """Whether the project has a test and wants it passed."""
    done: int
    """Tests done or skipped."""
    total: int
    """Tests there are."""
    score: float | None
    """Mean tau-b of those that are done; a skipped one counts 0. None: none is done yet."""
    passed: bool | None
    """None: not finished."""

    @property
    def open(self) -> bool:
        """Whether the test comes next."""
        return self.required and self.passed is None

    @property
    def failed(self) -> bool:
        """Whether there is no work for him here."""
        return self.required and self.passed is False


def score(order: WeakOrder | None, gold: WeakOrder) -> float:
    """Kendall's tau-b against the right order, -1 to 1; 0 for a label that orders nothing."""
    tau = math.nan if order is None else kendall_tau_b(order, gold)
    return 0.0 if math.isnan(tau) else tau


def state_of(session: Session, project: Project, labeller: str, languages: Collection[str] = ()) -> ScreeningState:
    """How far a labeller is with the test of a project, in his languages (empty: all)."""
    if not project.settings.screening.required:
        return ScreeningState(required=False, done=0, total=0, score=None, passed=None)
    mine = and_(LabelRow.task_id == TaskRow.id, LabelRow.labeller == labeller, LabelRow.state != "undone")
    left = and_(SkipRow.task_id == TaskRow.id, SkipRow.labeller == labeller)
    query = (
        select(TaskRow.state, TaskRow.flags_count, LabelRow.uuid, LabelRow.gold_tau, SkipRow.task_id)
        .outerjoin(LabelRow, mine)
        .outerjoin(SkipRow, left)
        .where(TaskRow.project_id == project.id, TaskRow.screening)
    )
    if languages:
        query = query.where(TaskRow.language.in_(languages))
    taus, num_open = list[float](), 0
    for state, num_flags, label, tau, skipped in session.execute(query):
        if label is not None or skipped is not None:
            taus.append(tau or 0.0)
        elif state == "open" and not num_flags:
            num_open += 1
    if not taus and not num_open:
        return ScreeningState(required=False, done=0, total=0, score=None, passed=None)
    mean = sum(taus) / len(taus) if taus else None
    passed = None if num_open or mean is None else mean >= project.settings.screening.pass_score
    return ScreeningState(required=True, done=len(taus), total=len(taus) + num_open, score=mean, passed=passed)
