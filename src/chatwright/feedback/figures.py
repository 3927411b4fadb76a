"""What the desk measures about a project, as values: the dashboard's parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatwright.statistics.bootstrap import Interval

WarningCode = Literal[
    "low_agreement", "high_agreement", "few_overlaps", "labeller_too_fast", "labeller_gold", "labeller_unreliable"
]


@dataclass(frozen=True, kw_only=True)
class KindProgress:
    """How far a kind of task is."""

    kind: str
    open: int
    complete: int
    merged: int
    closed: int
    labels: int
    """Labels that count: not undone, not surplus, not of test tasks."""
    wanted: int
    """Labels the tasks ask for, without test tasks."""
    surplus: int
    undone: int
    skipped: int
    flagged: int
    median_seconds: float | None
    """Active seconds per label; None without labels."""
    mean_seconds: float | None
    cost: float | None
    """Per label, in the currency of the wage; None without a wage or labels."""


@dataclass(frozen=True, kw_only=True)
class KindAgreement:
    """Two kinds of labellers, such as people and an AI judge."""

    first: str
    second: str
    num_tasks: int
    """Tasks that labellers of both kinds ranked."""
    percent: Interval
    """Share of pairs on which a labeller of one kind agrees with one of the other."""
    tau_b: Interval | None


@dataclass(frozen=True, kw_only=True)
class AgreementFigures:
    """How far labellers of the same tasks agree; a figure is None where nothing can be compared."""

    num_tasks: int
    """Tasks with two or more rankings."""
    num_pairs: int
    """Comparisons of two labellers on a pair of answers."""
    percent: Interval | None
    """Share of pairs with the same relation: better, worse or tied."""
    percent_without_ties: Interval | None
    """The same over pairs that both labellers ordered strictly."""
    tau_b: Interval | None
    """Mean Kendall tau-b of two labellers."""
    spearman: Interval | None
    alpha_nominal: Interval | None
    """Krippendorff's alpha of the pairs' relations."""
    alpha_ordinal: Interval | None
    likert_alpha: Interval | None
    """Krippendorff's alpha, ordinal, of the 1-7 ratings."""
    held_out: Interval | None
    """Percent agreement of training labellers with held-out labellers."""
    held_out_labellers: list[str]
    kinds: list[KindAgreement]
    """Of every two kinds of labellers that share tasks; people with people is a line too."""


@dataclass(frozen=True, kw_only=True)
class LabellerLine:
    """One labeller."""

    labeller: str
    kind: str
    """human, simulated or ai."""
    labels: dict[str, int]
    """Per kind of task."""
    median_seconds: float | None
    """Active seconds per ranking."""
    too_fast: float
    """Share of labels given faster than a person can read."""
    agreement: Interval | None
    """Share of pairs on which the others agree with this labeller."""
    ties: float | None
    """Share of this labeller's pairs that are ties."""
    gold_tau_b: float | None
    """Mean tau-b with the gold rankings."""
    num_gold: int
    reliability: float | None
    """Share of rankings that follow the others' order rather than chance; None with too few shared tasks."""
    skipped: int
    flagged: int


@dataclass(frozen=True, kw_only=True)
class QualityWarning:
    """Something a lead should look at."""

    code: WarningCode
    labeller: str | None = None
    value: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class CostComparison:
    """Writing against ranking, in active seconds."""

    num_demonstrations: int
    num_rankings: int
    seconds_per_demonstration: Interval | None
    seconds_per_ranking: Interval | None
    ratio: Interval | None
    """Seconds of a demonstration divided by seconds of a ranking."""
    wage_per_hour: float | None
    cost_per_demonstration: float | None
    cost_per_ranking: float | None


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A project at a glance."""

    project: str
    labeller_kinds: list[str]
    """Kinds that are counted in the figures."""
    progress: list[KindProgress]
    agreement: AgreementFigures
    labellers: list[LabellerLine]
    cost: CostComparison
    warnings: list[QualityWarning]
    adjudication: int
    """Open tasks of kind adjudicate."""
    mergeable: int
    """Complete ranking tasks that are not merged yet."""
    measured_at: float
    """Seconds since 1970, UTC."""
