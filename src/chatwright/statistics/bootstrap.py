"""Percentile bootstrap over groups (questions, prompts), the one used by every interval of a report.

Answers to one question are not independent, so whole questions are drawn, never single answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError

Floats = npt.NDArray[np.float64]
DEFAULT_DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its percentile interval."""

    value: float
    low: float
    high: float


def ratio_interval(sums: Floats, counts: Floats, *, seed: int = 0, draws: int = DEFAULT_DRAWS) -> Interval:
    """sum(sums) / sum(counts) over groups with a 95 % percentile interval; groups are drawn with replacement.

    Args:
        sums, counts: one entry per group [G]; a group with count 0 adds nothing.
        seed: the interval is a function of the data, the seed and `draws`.
    Raises:
        DataError: when all counts are 0.
    """
    total = float(counts.sum())
    if total <= 0:
        raise DataError("there is nothing to average: every group is empty.")
    drawn = np.array([(sums[picked].sum(), counts[picked].sum()) for picked in _draws(len(sums), seed, draws)])
    low, high = percentiles(drawn[drawn[:, 1] > 0, 0] / drawn[drawn[:, 1] > 0, 1])
    return Interval(value=float(sums.sum()) / total, low=low, high=high)


def statistic_interval(
    num_groups: int, statistic: Callable[[npt.NDArray[np.int64]], float], *, seed: int = 0, draws: int = DEFAULT_DRAWS
) -> Interval:
    """Any statistic of a selection of groups (indices [G], repeats allowed); draws that are not finite are left out."""
    value = statistic(np.arange(num_groups))
    drawn = np.array([statistic(picked) for picked in _draws(num_groups, seed, draws)])
    drawn = drawn[np.isfinite(drawn)]
    low, high = percentiles(drawn) if len(drawn) else (float("nan"), float("nan"))
    return Interval(value=value, low=low, high=high)


def mean_interval(values: Floats, *, seed: int = 0, draws: int = DEFAULT_DRAWS) -> Interval:
    """Mean of independent values [N], at least one."""
    return ratio_interval(values, np.ones(len(values)), seed=seed, draws=draws)


def mean_ratio_interval(first: Floats, second: Floats, *, seed: int = 0, draws: int = DEFAULT_DRAWS) -> Interval:
    """Mean of `first` [N] divided by mean of `second` [M], two independent samples; the second mean is not 0."""
    random = np.random.default_rng(seed)
    above = first[random.integers(0, len(first), size=(draws, len(first)))].mean(axis=1)
    below = second[random.integers(0, len(second), size=(draws, len(second)))].mean(axis=1)
    low, high = percentiles(above[below > 0] / below[below > 0])
    return Interval(value=float(first.mean() / second.mean()), low=low, high=high)


def percentiles(drawn: Floats) -> tuple[float, float]:
    """The middle 95 % of the bootstrap draws."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def _draws(num_groups: int, seed: int, draws: int) -> Iterator[npt.NDArray[np.int64]]:
    """Selections of groups [G], one per draw; made one by one, so memory does not grow with the number of draws."""
    random = np.random.default_rng(seed)
    return (random.integers(0, num_groups, size=num_groups) for _ in range(draws))
