"""Several orders of the same answers -> one, with ties, deterministically, and without favour to any letter.

* `ranked_pairs` (Tideman 1987): the majorities of pairs are locked in from the strongest down, each unless it closes a
  circle with those locked before. Majorities of equal strength are locked together; those that would close a circle with
  one another are all left out, so that no answer gains by its letter. A pair that more labellers tied than ordered either
  way has no majority.
* `borda`: points are the share of compared answers that an answer beats, ties as halves.
* `bradley_terry`: strengths with ties as half wins, weighted by labeller reliability; `plackett_luce`: strengths from whole
  orders, tied answers counted as the mean over the strict orders they leave open (for two answers: half wins again).
  Fitted strengths are never exactly equal, so answers are tied where Davidson's model, fitted to the ties that were given,
  finds a tie likelier than either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.feedback import plackett_luce
from chatwright.feedback.agreement import item_agreement
from chatwright.records import LETTERS, WeakOrder
from chatwright.statistics import bradley_terry
from chatwright.statistics.ties import fit_log_nu

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Method = Literal["ranked_pairs", "borda", "bradley_terry", "plackett_luce"]
LEAST_WEIGHT = 0.01
"""A labeller of no reliability still counts this much, so that a task that only he ranked has an order."""
_EQUAL = 1e-9


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One order for a task."""

    order: WeakOrder
    agreement: float | None
    """Share of pairs on which two labellers agree; None with fewer than two labellers."""
    cycle: tuple[str, ...] = ()
    """Letters of answers in a circle of majorities (A over B over C over A); empty when there is none."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Figures behind the order: margins, points or strengths per letter; majorities left out."""


def merge(
    orders: Sequence[tuple[str, WeakOrder]], method: Method = "ranked_pairs", *, weights: Mapping[str, float] | None = None
) -> Merged:
    """Merge the orders of one task.

    Args:
        orders: (labeller, order), each of the same K answers. The result does not depend on their sequence.
        weights: reliability per labeller in [0, 1], for bradley_terry and plackett_luce; a labeller without one counts 1.
    Raises:
        DataError: when there is no order, a labeller stands twice, or the numbers of answers differ.
    """
    if not orders:
        raise DataError("there is no ranking to merge")
    if len({name for name, _ in orders}) < len(orders):
        raise DataError("a labeller stands twice among the rankings of one task; keep the last one")
    if len({order.k for _, order in orders}) > 1:
        raise DataError("the rankings of one task have different numbers of answers")
    if method not in _METHODS:
        raise DataError(f"merge method {method!r} is not one of {', '.join(_METHODS)}")
    orders = sorted(orders, key=lambda one: one[0])
    given = {} if weights is None else weights
    counted = np.array([max(LEAST_WEIGHT, given.get(name, 1.0)) for name, _ in orders])
    values = [order for _, order in orders]
    ranked = [i for i in range(values[0].k) if any(order.ranks[i] is not None for order in values)]
    scores, detail = _METHODS[method](values, counted, ranked)
    width = float(detail.get("tie_width", _EQUAL))
    return Merged(
        order=WeakOrder.from_scores([scores[i] if i in ranked else None for i in range(values[0].k)], width),
        agreement=item_agreement(dict(orders)),
        cycle=_majorities(values)[1],
        detail={"method": method, "num_labellers": len(orders), **detail},
    )


def needs_adjudication(merged: Merged, *, below: float) -> bool:
    """Whether a person should decide: the labellers agree on less than `below` of the pairs, or go in a circle."""
    return bool(merged.cycle) or (merged.agreement is not None and merged.agreement < below)


Scored = tuple[Floats, dict[str, Any]]


# ---- ranked pairs ------------------------------------------------------------------------------------------


def _ranked_pairs(orders: Sequence[WeakOrder], weights: Floats, ranked: Sequence[int]) -> Scored:
    margins, _ = _majorities(orders)
    locked = np.zeros(margins.shape, dtype=bool)
    left_out = []
    for strength in sorted({int(m) for m in margins[margins > 0]}, reverse=True):
        group = margins == strength
        reach = _reach(locked | group)
        circular = group & reach.T  # an edge i -> j lies on a circle when i can be reached from j
        locked |= group & ~circular
        left_out += [f"{LETTERS[i]}>{LETTERS[j]}" for i, j in np.argwhere(circular)]
    below = _reach(locked)
    # How many are below less how many are above: a weak order that keeps every locked majority.
    scores = below.sum(axis=1) - below.sum(axis=0)
    shown = {f"{LETTERS[i]}>{LETTERS[j]}": int(margins[i, j]) for i, j in np.argwhere(margins > 0)}
    return scores.astype(np.float64), {"margins": shown, "left_out": left_out}


def _majorities(orders: Sequence[WeakOrder]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Winners less losers per pair [K, K] where there is a majority, else 0; and the letters in circles."""
    wins, ties = _wins_and_ties(orders, np.ones(len(orders)))
    undecided = ties > np.maximum(wins, wins.T)
    margins = np.where((wins > wins.T) & ~undecided, wins - wins.T, 0).round().astype(np.int64)
    reach = _reach(margins > 0)
    return margins, tuple(LETTERS[i] for i in range(len(margins)) if reach[i, i])


def _wins_and_ties(orders: Sequence[WeakOrder], weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the labellers who put i over j [K, K], and who tied them."""
    k = orders[0].k
    wins, ties = np.zeros((k, k)), np.zeros((k, k))
    for order, weight in zip(orders, weights, strict=True):
        for i, j, relation in order.pairs():
            if relation == 0:
                ties[i, j] += weight
                ties[j, i] += weight
            else:
                wins[(i, j) if relation > 0 else (j, i)] += weight
    return wins, ties


def _reach(edges: Bools) -> Bools:
    """Transitive closure of a graph [K, K]."""
    reach = edges.copy()
    for middle in range(len(edges)):
        reach |= reach[:, middle, None] & reach[None, middle, :]
    return reach


# ---- points and strengths ----------------------------------------------------------------------------------


def _borda(orders: Sequence[WeakOrder], weights: Floats, ranked: Sequence[int]) -> Scored:
    wins, ties = _wins_and_ties(orders, np.ones(len(orders)))
    compared = (wins + wins.T + ties).sum(axis=1)
    scores = (wins + ties / 2).sum(axis=1) / np.maximum(compared, 1.0)
    return scores, {"points": _by_letter(scores, ranked)}


def _bradley_terry(orders: Sequence[WeakOrder], weights: Floats, ranked: Sequence[int]) -> Scored:
    place = {answer: n for n, answer in enumerate(ranked)}
    rows = [
        (place[i], place[j], (relation + 1) / 2, weight)
        for order, weight in zip(orders, weights, strict=True) for i, j, relation in order.pairs()
    ]  # fmt: skip
    if not rows:
        return np.zeros(orders[0].k), {"strengths": _by_letter(np.zeros(orders[0].k), ranked)}
    a, b, outcomes, counted = (np.array(column) for column in zip(*rows, strict=True))
    found = bradley_terry.fit(
        a.astype(np.int64), b.astype(np.int64), outcomes.astype(np.float64), len(ranked), weights=counted.astype(np.float64)
    )
    return _from_strengths(found.values, found.regularised, orders, ranked)


def _plackett_luce(orders: Sequence[WeakOrder], weights: Floats, ranked: Sequence[int]) -> Scored:
    place = {answer: n for n, answer in enumerate(ranked)}
    levels = [[tuple(place[i] for i in level) for level in order.levels()] for order in orders]
    found = plackett_luce.fit(levels, len(ranked), weights=weights)
    return _from_strengths(found.values, found.regularised, orders, ranked)


def _from_strengths(values: Floats, regularised: bool, orders: Sequence[WeakOrder], ranked: Sequence[int]) -> Scored:
    scores = np.zeros(orders[0].k)
    scores[list(ranked)] = values
    pairs = [(scores[i] - scores[j], relation) for order in orders for i, j, relation in order.pairs()]
    margins = np.array([margin for margin, _ in pairs], dtype=np.float64)
    log_nu = fit_log_nu(margins, np.array([relation for _, relation in pairs], dtype=np.int64)) if pairs else 0.0
    # Davidson: a tie is the likeliest outcome while |margin| / 2 < log nu.
    width = max(_EQUAL, 2 * log_nu)
    return scores, {"strengths": _by_letter(scores, ranked), "tie_width": width, "regularised": regularised}


def _by_letter(scores: Floats, ranked: Sequence[int]) -> dict[str, float]:
    return {LETTERS[i]: float(scores[i]) for i in ranked}


_METHODS: dict[str, Callable[[Sequence[WeakOrder], Floats, Sequence[int]], Scored]] = {
    "ranked_pairs": _ranked_pairs,
    "borda": _borda,
    "bradley_terry": _bradley_terry,
    "plackett_luce": _plackett_luce,
}
