"""How far labellers agree on the order of the same answers.

The rule of ties: two labellers agree on a pair of answers when both call the first better, both the second, or both call
the two equal; "tied" against "better" is a disagreement. Without ties, only pairs that both ordered strictly are counted.
Intervals come from a bootstrap over items (tasks): the rankings of one task are not independent.
An unranked answer makes no pair.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.feedback import krippendorff
from chatwright.records import WeakOrder
from chatwright.statistics.bootstrap import DEFAULT_DRAWS, Interval, ratio_interval, statistic_interval

Item = Mapping[str, WeakOrder]
"""The orders of one task, by labeller."""
Pair = tuple[str, WeakOrder, str, WeakOrder]
_RELATIONS = (-1.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Pairs of answers that two orders both rank."""

    num: int
    same: int
    """Same relation: better, worse or tied."""
    num_strict: int
    """Pairs that are a tie in neither."""
    same_strict: int

    @property
    def share(self) -> float:
        """Share with the same relation; NaN without pairs."""
        return self.same / self.num if self.num else math.nan


def pair_counts(a: WeakOrder, b: WeakOrder) -> PairCounts:
    """Compare two orders of the same answers pair by pair."""
    theirs = {(i, j): relation for i, j, relation in b.pairs()}
    both = [(relation, theirs[i, j]) for i, j, relation in a.pairs() if (i, j) in theirs]
    strict = [(x, y) for x, y in both if x and y]
    return PairCounts(
        num=len(both), same=sum(x == y for x, y in both), num_strict=len(strict), same_strict=sum(x == y for x, y in strict)
    )


def kendall_tau_b(a: WeakOrder, b: WeakOrder) -> float:
    """Kendall's tau-b of two orders with ties, over the answers both rank: (concordant - discordant) / sqrt(pairs untied in
    a * pairs untied in b). NaN when either ties everything (or nothing is shared)."""
    theirs = {(i, j): relation for i, j, relation in b.pairs()}
    both = [(relation, theirs[i, j]) for i, j, relation in a.pairs() if (i, j) in theirs]
    untied = sum(x != 0 for x, _ in both) * sum(y != 0 for _, y in both)
    return sum(x * y for x, y in both) / math.sqrt(untied) if untied else math.nan


def spearman_rho(a: WeakOrder, b: WeakOrder) -> float:
    """Spearman's rho: the correlation of the mean ranks, over the answers both rank. NaN like `kendall_tau_b`."""
    shared = [i for i in range(a.k) if a.ranks[i] is not None and b.ranks[i] is not None]
    x, y = _mean_ranks([a.ranks[i] for i in shared]), _mean_ranks([b.ranks[i] for i in shared])
    if len(shared) < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def _mean_ranks(levels: Sequence[int | None]) -> npt.NDArray[np.float64]:
    values = np.array(levels, dtype=np.float64)
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2)


# ---- many items --------------------------------------------------------------------------------------------


def percent_agreement(
    items: Sequence[Item], *, without_ties: bool = False, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Interval | None:
    """Share of (two labellers, pair of answers) with the same relation, over all items; None when nothing is shared."""
    return _percent([list(_pairs(item)) for item in items], without_ties, seed, draws)


def agreement_between(
    items: Sequence[Item], first: Collection[str], second: Collection[str], *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Interval | None:
    """Percent agreement of labellers of one group with those of another, such as training with held-out labellers."""
    return _percent([_across(item, set(first), set(second)) for item in items], False, seed, draws)


def agreement_with_rest(
    items: Sequence[Item], labeller: str, *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Interval | None:
    """Percent agreement of one labeller with everybody else."""
    return _percent(
        [[pair for pair in _pairs(item) if labeller in (pair[0], pair[2])] for item in items if labeller in item],
        False, seed, draws,
    )  # fmt: skip


def mean_correlation(
    items: Sequence[Item], measure: Callable[[WeakOrder, WeakOrder], float], *,
    between: tuple[Collection[str], Collection[str]] | None = None, seed: int = 0, draws: int = DEFAULT_DRAWS,
) -> Interval | None:  # fmt: skip
    """Mean of `kendall_tau_b` or `spearman_rho` over all two labellers of an item; undefined ones are left out.
    `between`: only of a labeller of one group with one of the other."""
    sums, counts = [], []
    for item in items:
        pairs = _pairs(item) if between is None else _across(item, set(between[0]), set(between[1]))
        found = [value for _, a, _, b in pairs if not math.isnan(value := measure(a, b))]
        sums.append(math.fsum(found))
        counts.append(float(len(found)))
    return _interval(sums, counts, seed, draws)


def relation_alpha(
    items: Sequence[Item], metric: krippendorff.Metric, *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Interval | None:
    """Krippendorff's alpha of the relations of pairs (-1, 0, +1); a unit is a pair of answers of one task.

    Each pair is counted in both directions, so that alpha does not depend on which answer is called A.
    """
    units = [_relation_units(item) for item in items]
    return alpha_interval(units, _RELATIONS, metric, seed=seed, draws=draws)


def alpha_interval(
    items: Sequence[Sequence[Sequence[float]]], values: Sequence[float], metric: krippendorff.Metric, *, seed: int = 0,
    draws: int = DEFAULT_DRAWS,
) -> Interval | None:  # fmt: skip
    """Krippendorff's alpha with an interval over items; each item holds units, each unit the values given to it.

    None when it is not defined: nothing was observed twice, or only one value was ever given.
    """
    num = len(values)
    place = {value: n for n, value in enumerate(values)}
    rows = [(n, [place[value] for value in unit]) for n, units in enumerate(items) for unit in units if len(unit) >= 2]
    counts = np.zeros((len(rows), num))
    for row, (_, unit) in enumerate(rows):
        for given in unit:
            counts[row, given] += 1
    # As `krippendorff.coincidences`, for all units at once.
    pairs = (counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(num)) / (
        np.maximum(counts.sum(axis=1), 2) - 1
    )[:, None, None]
    parts = np.zeros((len(items), num * num))
    np.add.at(parts, np.array([n for n, _ in rows], dtype=np.int64), pairs.reshape(len(rows), num * num))

    def statistic(picked: npt.NDArray[np.int64]) -> float:
        return krippendorff.alpha_of(parts[picked].sum(axis=0).reshape(num, num), values, metric)

    if math.isnan(statistic(np.arange(len(items)))):
        return None
    return statistic_interval(len(items), statistic, seed=seed, draws=draws)


def pair_exists(item: Item, first: Collection[str], second: Collection[str]) -> bool:
    """Whether a labeller of one group and another one of the other ranked this item."""
    return bool(_across(item, set(first), set(second)))


def item_agreement(item: Item) -> float | None:
    """Percent agreement of the labellers of one item; None with fewer than two, or without a shared pair."""
    relations: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)  # by pair of answers; linear in labellers
    for order in item.values():
        for i, j, relation in order.pairs():
            relations[i, j][relation] += 1
    num = sum(math.comb(seen.total(), 2) for seen in relations.values())
    same = sum(math.comb(count, 2) for seen in relations.values() for count in seen.values())
    return same / num if num else None


def _pairs(item: Item) -> Iterator[Pair]:
    for (one, a), (other, b) in itertools.combinations(sorted(item.items()), 2):
        yield one, a, other, b


def _across(item: Item, first: set[str], second: set[str]) -> list[Pair]:
    return [
        pair for pair in _pairs(item)
        if (pair[0] in first and pair[2] in second) or (pair[2] in first and pair[0] in second)
    ]  # fmt: skip


def _percent(items: Sequence[Sequence[Pair]], without_ties: bool, seed: int, draws: int) -> Interval | None:
    sums, counts = [], []
    for pairs in items:
        found = [pair_counts(a, b) for _, a, _, b in pairs]
        sums.append(float(sum(c.same_strict if without_ties else c.same for c in found)))
        counts.append(float(sum(c.num_strict if without_ties else c.num for c in found)))
    return _interval(sums, counts, seed, draws)


def _interval(sums: Sequence[float], counts: Sequence[float], seed: int, draws: int) -> Interval | None:
    kept = [n for n, count in enumerate(counts) if count > 0]
    if not kept:
        return None
    return ratio_interval(np.array(sums)[kept], np.array(counts)[kept], seed=seed, draws=draws)


def _relation_units(item: Item) -> list[list[float]]:
    given: dict[tuple[int, int], list[float]] = {}
    for _, order in sorted(item.items()):
        for i, j, relation in order.pairs():
            given.setdefault((i, j), []).append(float(relation))
            given.setdefault((j, i), []).append(float(-relation))
    return [unit for unit in given.values() if len(unit) >= 2]
