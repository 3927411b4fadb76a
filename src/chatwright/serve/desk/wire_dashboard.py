"""What the leads' dashboard and merging read and write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from chatwright.serve.chat.wire import Wire

MergeMethod = Literal["ranked_pairs", "borda", "bradley_terry", "plackett_luce"]
WarningCode = Literal[
    "low_agreement", "high_agreement", "labeller_too_fast", "labeller_gold", "labeller_unreliable", "few_overlaps"
]


class Figure(BaseModel):
    """A figure and its 95 % interval (bootstrap over tasks)."""

    value: float
    low: float
    high: float


class KindProgress(BaseModel):
    """How far a kind of task is."""

    kind: str
    open: int
    complete: int
    merged: int
    closed: int
    labels: int
    """Labels that count: not undone, not surplus."""
    wanted: int
    """Labels the tasks ask for: the sum of their overlaps."""
    surplus: int
    undone: int
    skipped: int
    flagged: int
    median_seconds: float | None
    """Active seconds per label; None without labels."""
    mean_seconds: float | None
    cost: float | None
    """Per label, in the currency of the wage; None without a wage or labels."""


class AgreementFigures(BaseModel):
    """How far labellers of the same tasks agree; a figure is None where nothing can be compared."""

    num_tasks: int
    """Tasks with two or more rankings."""
    num_pairs: int
    """Comparisons of two labellers on a pair of answers."""
    percent: Figure | None
    """Share of pairs with the same relation: better, worse or tied."""
    percent_without_ties: Figure | None
    """The same over pairs that both labellers ordered strictly."""
    tau_b: Figure | None
    """Mean Kendall tau-b of two labellers."""
    spearman: Figure | None
    alpha_nominal: Figure | None
    """Krippendorff's alpha of the pairs' relations."""
    alpha_ordinal: Figure | None
    likert_alpha: Figure | None
    """Krippendorff's alpha, ordinal, of the 1-7 ratings."""
    held_out: Figure | None
    """Percent agreement of training labellers with held-out labellers."""
    held_out_labellers: list[str]


class LabellerLine(BaseModel):
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
    agreement: Figure | None
    """Share of pairs on which the others agree with this labeller."""
    ties: float | None
    """Share of this labeller's pairs that are ties."""
    gold_tau_b: float | None
    """Mean tau-b with the gold rankings."""
    num_gold: int
    reliability: float | None
    """Share of pairs that follow the common order rather than chance; None with too few shared tasks."""
    skipped: int
    flagged: int


class QualityWarning(BaseModel):
    """Something a lead should look at."""

    code: WarningCode
    labeller: str | None = None
    value: float
    limit: float


class CostComparison(BaseModel):
    """Writing against ranking, in active seconds of people."""

    num_demonstrations: int
    num_rankings: int
    seconds_per_demonstration: Figure | None
    seconds_per_ranking: Figure | None
    ratio: Figure | None
    """Seconds of a demonstration divided by seconds of a ranking."""
    wage_per_hour: float | None
    cost_per_demonstration: float | None
    cost_per_ranking: float | None


class Dashboard(BaseModel):
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


class MergeRequest(Wire):
    """Merge every complete ranking task of a project that is not merged yet."""

    project: Annotated[str, Field(min_length=1, max_length=128)]
    method: MergeMethod | None = None
    """None: the project's."""
    adjudicate_below: Annotated[float | None, Field(ge=0, le=1)] = None
    """Agreement under which a task goes to adjudication; None: the project's."""


class MergeResult(BaseModel):
    """What merging did."""

    merged: int
    adjudicate: int
    """Tasks sent to an adjudicator."""
    cycles: int
    """Tasks whose labellers' majorities went in a circle."""
    method: MergeMethod
