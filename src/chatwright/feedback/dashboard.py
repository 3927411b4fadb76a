"""What a lead sees of a project: progress, agreement, labellers, the cost of writing against ranking, warnings.

Agreement, reliability and merging look at current labels of rankings and comparisons. Tasks whose right order is known are
left out of agreement: they are chosen for being clear. Labels of adjudicators are left out too, for they saw the others'.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from chatwright.feedback import agreement, reliability
from chatwright.feedback.figures import (
    AgreementFigures,
    CostComparison,
    Dashboard,
    KindAgreement,
    KindProgress,
    LabellerLine,
    QualityWarning,
)
from chatwright.feedback.projects import project_of
from chatwright.feedback.tables import LabelRow, SkipRow, TaskRow
from chatwright.feedback.task_search import COMPARED
from chatwright.feedback.values import KINDS, order_of
from chatwright.records import WeakOrder
from chatwright.statistics.bootstrap import Interval, mean_interval, mean_ratio_interval
from chatwright.workspace.database import Workspace, now

LABELLER_KINDS = ("human", "simulated", "ai")
LOW_AGREEMENT, HIGH_AGREEMENT = 0.65, 0.90
"""InstructGPT's labellers agreed on 73 %; below, suspect the guideline, above, that somebody copies."""
TOO_FAST_SHARE = 0.10
LOW_GOLD = 0.40  # mean tau-b
LOW_RELIABILITY = 0.50
ENOUGH_TASKS, ENOUGH_LABELS, ENOUGH_GOLD = 20, 10, 3
"""Below these a figure is too uncertain for a warning."""
_DRAWS = 500  # of each interval; a dashboard has dozens


@dataclass(frozen=True, kw_only=True)
class Label:
    """A current label, as the figures need it."""

    task: str
    kind: str
    labeller: str
    labeller_kind: str
    value: Mapping[str, Any]
    order: WeakOrder | None
    seconds: float
    too_fast: bool
    gold_tau: float | None
    everybody: bool
    """Of a gold or screening task."""
    split: str


def labels_of(
    session: Session, project_id: str, labeller_kinds: Collection[str] = LABELLER_KINDS, *, tasks: Collection[str] = ()
) -> list[Label]:
    """Current labels of a project, in the order they came; with `tasks` those of these tasks (some hundreds at most)."""
    query = (
        select(LabelRow, TaskRow.everybody, TaskRow.split, TaskRow.answers)
        .join(TaskRow, TaskRow.id == LabelRow.task_id)
        .where(LabelRow.project_id == project_id, LabelRow.state == "current")
        .where(LabelRow.labeller_kind.in_(sorted(labeller_kinds)))
        .order_by(LabelRow.seq)
    )
    if tasks:
        query = query.where(LabelRow.task_id.in_(tasks))
    return [
        Label(
            task=row.task_id, kind=row.kind, labeller=row.labeller, labeller_kind=row.labeller_kind, value=row.value,
            order=order_of(row.kind, row.value, len(answers)), seconds=float(sum(row.seconds.values())),
            too_fast=row.too_fast, gold_tau=row.gold_tau, everybody=everybody, split=split,
        )
        for row, everybody, split, answers in session.execute(query)
    ]  # fmt: skip


def items_of(labels: Iterable[Label]) -> dict[str, dict[str, WeakOrder]]:
    """Orders by task and labeller, of what agreement and merging look at."""
    found: dict[str, dict[str, WeakOrder]] = defaultdict(dict)
    for label in labels:
        if label.kind in COMPARED and not label.everybody and label.order is not None:
            found[label.task][label.labeller] = label.order
    return dict(found)


def dashboard(
    session: Session, project_id: str, *, labeller_kinds: Collection[str] = LABELLER_KINDS,
    held_out: Collection[str] | None = None,
) -> Dashboard:  # fmt: skip
    """A project at a glance. `held_out`: labellers to hold the others against; None: those whose labels all belong to
    the held-out part. MissingError."""
    settings = project_of(session, project_id).settings
    labels = labels_of(session, project_id, labeller_kinds)
    skips = _skips(session, project_id)
    items = items_of(labels)
    figures = agreement_figures(labels, items, held_out)
    labellers = _labellers(labels, list(items.values()), skips)
    tasks = _tasks(session, project_id)
    return Dashboard(
        project=project_id,
        labeller_kinds=[kind for kind in LABELLER_KINDS if kind in labeller_kinds],
        progress=_progress(session, project_id, tasks, labels, settings.wage_per_hour),
        agreement=figures,
        labellers=labellers,
        cost=cost_comparison(labels, settings.wage_per_hour),
        warnings=warnings_of(figures, labellers),
        adjudication=sum(num for (kind, state), num in tasks.items() if kind == "adjudicate" and state == "open"),
        mergeable=_mergeable(session, project_id),
        measured_at=now(),
    )


def measure(workspace: Workspace, *, project: str, labeller_kinds: Sequence[str], held_out: Sequence[str]) -> dict[str, Any]:
    """`dashboard` as JSON, for `apart.run_apart`."""
    with workspace.reading() as session:
        return asdict(dashboard(session, project, labeller_kinds=labeller_kinds, held_out=held_out or None))


# ---- agreement ---------------------------------------------------------------------------------------------


def agreement_figures(
    labels: Sequence[Label], items: Mapping[str, Mapping[str, WeakOrder]], held_out: Collection[str] | None = None
) -> AgreementFigures:
    """How far the labellers of the same tasks agree."""
    shared = [item for item in items.values() if len(item) >= 2]
    everybody = {label.labeller for label in labels if label.kind in COMPARED and not label.everybody}
    if held_out is None:
        training = {label.labeller for label in labels if label.kind in COMPARED and label.split == "train"}
        held_out = everybody - training
    apart = sorted(set(held_out) & everybody)
    twos = [two for item in shared for two in itertools.combinations(item.values(), 2)]
    return AgreementFigures(
        num_tasks=len(shared),
        num_pairs=sum(agreement.pair_counts(a, b).num for a, b in twos),
        percent=agreement.percent_agreement(shared, draws=_DRAWS),
        percent_without_ties=agreement.percent_agreement(shared, without_ties=True, draws=_DRAWS),
        tau_b=agreement.mean_correlation(shared, agreement.kendall_tau_b, draws=_DRAWS),
        spearman=agreement.mean_correlation(shared, agreement.spearman_rho, draws=_DRAWS),
        alpha_nominal=agreement.relation_alpha(shared, "nominal", draws=_DRAWS),
        alpha_ordinal=agreement.relation_alpha(shared, "ordinal", draws=_DRAWS),
        likert_alpha=_likert_alpha(labels),
        held_out=agreement.agreement_between(shared, everybody - set(apart), apart, draws=_DRAWS),
        held_out_labellers=apart,
        kinds=_kinds(labels, shared),
    )


def _kinds(labels: Iterable[Label], shared: Sequence[Mapping[str, WeakOrder]]) -> list[KindAgreement]:
    """How far kinds of labellers agree with one another and among themselves."""
    of_kind: dict[str, set[str]] = {kind: set() for kind in LABELLER_KINDS}
    for label in labels:
        of_kind[label.labeller_kind].add(label.labeller)
    found = []
    for first, second in itertools.combinations_with_replacement(LABELLER_KINDS, 2):
        groups = of_kind[first], of_kind[second]
        percent = agreement.agreement_between(shared, *groups, draws=_DRAWS)
        if percent is not None:
            num = sum(agreement.pair_exists(item, *groups) for item in shared)
            tau_b = agreement.mean_correlation(shared, agreement.kendall_tau_b, between=groups, draws=_DRAWS)
            found.append(KindAgreement(first=first, second=second, num_tasks=num, percent=percent, tau_b=tau_b))
    return found


def _likert_alpha(labels: Iterable[Label]) -> Interval | None:
    """Of the ratings of the same answer by several labellers, whether they stand alone or before a ranking."""
    given: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for label in labels:
        if not label.everybody:
            for n, rating in enumerate(label.value.get("likert") or ()):
                if rating is not None:
                    given[label.task][n].append(float(rating))
    items = [[unit for unit in answers.values() if len(unit) >= 2] for answers in given.values()]
    values = [float(rating) for rating in range(1, 8)]
    return agreement.alpha_interval([item for item in items if item], values, "ordinal", draws=_DRAWS)


# ---- labellers ---------------------------------------------------------------------------------------------


def _labellers(
    labels: Sequence[Label], items: Sequence[Mapping[str, WeakOrder]], skips: Mapping[str, Counter[str]]
) -> list[LabellerLine]:
    found = reliability.reliabilities(items)
    by_labeller: dict[tuple[str, str], list[Label]] = defaultdict(list)
    for label in labels:
        by_labeller[label.labeller, label.labeller_kind].append(label)
    lines = []
    for (name, kind), mine in sorted(by_labeller.items(), key=lambda one: (-len(one[1]), one[0])):
        seconds = [label.seconds for label in mine if label.kind == "rank"]
        gold = [label.gold_tau for label in mine if label.gold_tau is not None]
        pairs = [relation for label in mine if label.order is not None for _, _, relation in label.order.pairs()]
        lines.append(
            LabellerLine(
                labeller=name,
                kind=kind,
                labels=dict(sorted(Counter(label.kind for label in mine).items())),
                median_seconds=statistics.median(seconds) if seconds else None,
                too_fast=sum(label.too_fast for label in mine) / len(mine),
                agreement=agreement.agreement_with_rest(items, name, draws=_DRAWS),
                ties=pairs.count(0) / len(pairs) if pairs else None,
                gold_tau_b=statistics.fmean(gold) if gold else None,
                num_gold=len(gold),
                reliability=found[name].value if name in found else None,
                skipped=skips.get(name, Counter())["skipped"],
                flagged=skips.get(name, Counter())["flagged"],
            )
        )
    return lines


def _skips(session: Session, project_id: str) -> dict[str, Counter[str]]:
    """Per labeller, how many tasks were skipped, and how many flagged."""
    query = (
        select(SkipRow.labeller, SkipRow.flagged, func.count())
        .join(TaskRow, TaskRow.id == SkipRow.task_id)
        .where(TaskRow.project_id == project_id)
        .group_by(SkipRow.labeller, SkipRow.flagged)
    )
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for labeller, flagged, num in session.execute(query):
        found[labeller]["flagged" if flagged else "skipped"] += num
    return dict(found)


# ---- progress and cost -------------------------------------------------------------------------------------


def _tasks(session: Session, project_id: str) -> dict[tuple[str, str], int]:
    """Number of tasks by kind and state."""
    query = select(TaskRow.kind, TaskRow.state, func.count()).where(TaskRow.project_id == project_id)
    return {(kind, state): num for kind, state, num in session.execute(query.group_by(TaskRow.kind, TaskRow.state))}


def _progress(
    session: Session, project_id: str, tasks: Mapping[tuple[str, str], int], labels: Sequence[Label], wage_per_hour: float
) -> list[KindProgress]:
    # A closed task wants no more than it got.
    wants = case((TaskRow.state == "closed", TaskRow.labels_count), else_=TaskRow.overlap)
    asked = select(TaskRow.kind, func.sum(wants)).where(TaskRow.project_id == project_id, TaskRow.everybody.is_(False))
    asked = asked.group_by(TaskRow.kind)
    wanted = {kind: int(num) for kind, num in session.execute(asked)}
    states = {
        (kind, state): num
        for kind, state, num in session.execute(
            select(LabelRow.kind, LabelRow.state, func.count()).join(TaskRow, TaskRow.id == LabelRow.task_id)
            .where(LabelRow.project_id == project_id, TaskRow.everybody.is_(False)).group_by(LabelRow.kind, LabelRow.state)
        )
    }  # fmt: skip
    left = {
        (kind, flagged): num
        for kind, flagged, num in session.execute(
            select(TaskRow.kind, SkipRow.flagged, func.count()).join(TaskRow, TaskRow.id == SkipRow.task_id)
            .where(TaskRow.project_id == project_id).group_by(TaskRow.kind, SkipRow.flagged)
        )
    }  # fmt: skip
    found = []
    for kind in KINDS:
        if not any(of == kind for of, _ in (*tasks, *states)):
            continue
        seconds = [label.seconds for label in labels if label.kind == kind and label.seconds > 0]
        mean = statistics.fmean(seconds) if seconds else None
        found.append(
            KindProgress(
                kind=kind,
                open=tasks.get((kind, "open"), 0),
                complete=tasks.get((kind, "complete"), 0),
                merged=tasks.get((kind, "merged"), 0),
                closed=tasks.get((kind, "closed"), 0),
                labels=states.get((kind, "current"), 0),
                wanted=wanted.get(kind, 0),
                surplus=states.get((kind, "surplus"), 0),
                undone=states.get((kind, "undone"), 0),
                skipped=left.get((kind, False), 0),
                flagged=left.get((kind, True), 0),
                median_seconds=statistics.median(seconds) if seconds else None,
                mean_seconds=mean,
                cost=_cost(mean, wage_per_hour),
            )
        )
    return found


def _mergeable(session: Session, project_id: str) -> int:
    query = select(func.count()).select_from(TaskRow).where(
        TaskRow.project_id == project_id, TaskRow.kind.in_(COMPARED), TaskRow.state == "complete",
        TaskRow.everybody.is_(False),
    )  # fmt: skip
    return session.scalar(query) or 0


def cost_comparison(labels: Iterable[Label], wage_per_hour: float) -> CostComparison:
    """Active seconds of a demonstration against those of a ranking; labels without a measured time are left out."""
    found = list(labels)
    written = np.array([label.seconds for label in found if label.kind == "demonstrate" and label.seconds > 0])
    ranked = np.array([label.seconds for label in found if label.kind == "rank" and label.seconds > 0])
    write = mean_interval(written, draws=_DRAWS) if len(written) else None
    rank = mean_interval(ranked, draws=_DRAWS) if len(ranked) else None
    both = len(written) and len(ranked)
    return CostComparison(
        num_demonstrations=len(written),
        num_rankings=len(ranked),
        seconds_per_demonstration=write,
        seconds_per_ranking=rank,
        ratio=mean_ratio_interval(written, ranked, draws=_DRAWS) if both else None,
        wage_per_hour=wage_per_hour or None,
        cost_per_demonstration=_cost(write.value if write else None, wage_per_hour),
        cost_per_ranking=_cost(rank.value if rank else None, wage_per_hour),
    )


def _cost(seconds: float | None, wage_per_hour: float) -> float | None:
    return None if seconds is None or not wage_per_hour else seconds * wage_per_hour / 3600


# ---- warnings ----------------------------------------------------------------------------------------------


def warnings_of(figures: AgreementFigures, labellers: Iterable[LabellerLine]) -> list[QualityWarning]:
    """What a lead should look at, the project first."""
    found: list[QualityWarning] = []
    if figures.percent is not None and figures.num_tasks >= ENOUGH_TASKS:
        if figures.percent.value < LOW_AGREEMENT:
            found.append(QualityWarning(code="low_agreement", value=figures.percent.value, limit=LOW_AGREEMENT))
        elif figures.percent.value > HIGH_AGREEMENT:
            found.append(QualityWarning(code="high_agreement", value=figures.percent.value, limit=HIGH_AGREEMENT))
    elif figures.num_tasks:
        found.append(QualityWarning(code="few_overlaps", value=figures.num_tasks, limit=ENOUGH_TASKS))
    for line in labellers:
        num = sum(line.labels.values())
        checks: list[tuple[Any, float | None, float, bool]] = [
            ("labeller_too_fast", line.too_fast, TOO_FAST_SHARE, num >= ENOUGH_LABELS and line.too_fast > TOO_FAST_SHARE),
            ("labeller_gold", line.gold_tau_b, LOW_GOLD,
             line.gold_tau_b is not None and line.num_gold >= ENOUGH_GOLD and line.gold_tau_b < LOW_GOLD),
            ("labeller_unreliable", line.reliability, LOW_RELIABILITY,
             line.reliability is not None and line.reliability < LOW_RELIABILITY),
        ]  # fmt: skip
        found += [
            QualityWarning(code=code, labeller=line.labeller, value=value or 0.0, limit=limit)
            for code, value, limit, holds in checks if holds
        ]  # fmt: skip
    return found
