"""Plackett-Luce strengths from orders with ties, by Newton's method.

An order is a row of choices: the best of all, the best of the rest, ... P(i is chosen from S) = e^(s_i) / sum over S of
e^(s_j). A level of t tied answers counts as the mean log-likelihood over its t! strict orders; at its step m the answers
still to be chosen are any subset of t - m of them with equal chance, so the mean is a sum over subsets and exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.statistics.bradley_terry import RIDGE, Strengths

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Levels = Sequence[Sequence[int]]
"""Answers level by level, best first; answers that are not ranked are missing."""
_STEPS, _TOLERANCE = 200, 1e-12


def fit(orders: Sequence[Levels], num_answers: int, *, weights: Floats | None = None) -> Strengths:
    """Maximum-likelihood strengths [num_answers] in nats, with mean 0.

    Where the orders alone give no finite strengths (some answers are always above the others), a weak normal prior is added
    and `regularised` is set. `weights`: how often each order counts; None: once.
    """
    weights = np.ones(len(orders)) if weights is None else weights
    chosen = np.zeros(num_answers)
    sets: dict[tuple[int, ...], float] = {}
    beats = np.zeros((num_answers, num_answers), dtype=bool)
    for levels, weight in zip(orders, weights, strict=True):
        _count(levels, float(weight), chosen, sets, beats)
    members = np.zeros((len(sets), num_answers), dtype=bool)
    for n, answers in enumerate(sets):
        members[n, list(answers)] = True
    counted = np.array(list(sets.values()), dtype=np.float64)
    exact = _strongly_connected(beats)
    values = _newton(chosen, members, counted, 0.0 if exact else RIDGE)
    return Strengths(values=values - values.mean(), regularised=not exact)


def _count(levels: Levels, weight: float, chosen: Floats, sets: dict[tuple[int, ...], float], beats: Bools) -> None:
    """Add one order: who was chosen how often, and from which sets."""
    for n, level in enumerate(levels):
        after = [answer for later in levels[n + 1 :] for answer in later]
        for size in range(len(level), 0, -1):
            if size + len(after) < 2:
                continue  # the last one left is no choice
            share = weight / math.comb(len(level), size)
            for subset in itertools.combinations(sorted(level), size):
                key = tuple(sorted((*subset, *after)))
                sets[key] = sets.get(key, 0.0) + share
                chosen[list(subset)] += share / size
        for answer in level:
            beats[answer, after] = True
            beats[answer, [other for other in level if other != answer]] = True


def _strongly_connected(beats: Bools) -> bool:
    """Whether a chain of choices leads from every answer to every other one; only then a maximum exists."""
    reach = beats | np.eye(len(beats), dtype=bool)
    for middle in range(len(beats)):
        reach |= reach[:, middle, None] & reach[None, middle, :]
    return bool(reach.all())


def _newton(chosen: Floats, members: Bools, counted: Floats, ridge: float) -> Floats:
    """Maximum of sum_i chosen_i s_i - sum_S counted_S log sum_(j in S) e^(s_j) - ridge / 2 |s|^2; it is concave."""
    num = len(chosen)
    values = np.zeros(num)
    # Adding a constant to all strengths changes nothing; this term holds their sum without moving the maximum.
    gauge = np.ones((num, num))

    def objective(at: Floats) -> float:
        masked = np.where(members, at[None, :], -np.inf)
        top = masked.max(axis=1) if len(masked) else np.zeros(0)
        sums = top + np.log(np.exp(masked - top[:, None]).sum(axis=1))
        return float(chosen @ at - counted @ sums - 0.5 * ridge * at @ at)

    for _ in range(_STEPS):
        masked = np.where(members, values[None, :], -np.inf)
        chances = np.exp(masked - masked.max(axis=1, keepdims=True)) if len(masked) else np.zeros((0, num))
        chances /= chances.sum(axis=1, keepdims=True)
        gradient = chosen - counted @ chances - ridge * values
        hessian = np.diag(counted @ chances) - (chances * counted[:, None]).T @ chances + ridge * np.eye(num) + gauge
        step = np.linalg.solve(hessian, gradient)
        size, before = 1.0, objective(values)
        while size > 1e-8 and objective(values + size * step) < before - 1e-12 * abs(before):
            size /= 2
        values = values + size * step
        if np.abs(step).max() < _TOLERANCE * max(1.0, float(np.abs(values).max())):
            return values
    raise DataError("the strengths of these rankings cannot be fitted: the fit does not settle")
