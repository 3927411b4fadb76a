from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from chatwright.errors import DataError
from chatwright.statistics.bootstrap import mean_interval, mean_ratio_interval, ratio_interval, statistic_interval


def test_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=80)
    ours = ratio_interval(values, np.ones(80), draws=8000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=1).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_deterministic_by_seed() -> None:
    sums, counts = np.arange(30.0), np.full(30, 3.0)
    assert ratio_interval(sums, counts, seed=1) == ratio_interval(sums, counts, seed=1)
    assert ratio_interval(sums, counts, seed=1) != ratio_interval(sums, counts, seed=2)


def test_groups_are_drawn_whole() -> None:
    """Twenty copies of every answer inside its question add no certainty."""
    values = np.random.default_rng(1).random(40)
    once = ratio_interval(values, np.ones(40))
    copied = ratio_interval(values * 20, np.full(40, 20.0))
    assert (once.low, once.high) == (pytest.approx(copied.low), pytest.approx(copied.high))


def test_coverage() -> None:
    """About 95 % of the intervals hold the true mean."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        values = random.binomial(4, 0.7, size=60).astype(float)
        interval = ratio_interval(values, np.full(60, 4.0), draws=400)
        held += interval.low <= 0.7 <= interval.high
    assert 0.89 <= held / 200 <= 0.99


def test_empty_groups_do_not_count_and_all_empty_is_an_error() -> None:
    interval = ratio_interval(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert interval.value == interval.low == interval.high == 0.5
    with pytest.raises(DataError):
        ratio_interval(np.zeros(2), np.zeros(2))


def test_statistic_interval_leaves_out_undefined_draws() -> None:
    values = np.array([1.0, 2.0, 3.0])
    interval = statistic_interval(
        3, lambda picked: float("nan") if (picked == 0).all() else float(values[picked].mean())
    )
    assert interval.value == 2.0 and 1.0 <= interval.low <= interval.high <= 3.0


def test_means_and_their_ratio() -> None:
    random = np.random.default_rng(1)
    first, second = random.gamma(4.0, 25.0, 400), random.gamma(4.0, 5.0, 300)
    mean = mean_interval(first)
    assert mean.value == pytest.approx(first.mean()) and mean.low < mean.value < mean.high
    ratio = mean_ratio_interval(first, second, seed=2)
    assert ratio.value == pytest.approx(first.mean() / second.mean()) and ratio.low < 5.0 < ratio.high
    assert ratio == mean_ratio_interval(first, second, seed=2)
    # The interval of the ratio is about as wide as theory says (delta method).
    spread = ratio.value * np.sqrt(first.var() / first.mean() ** 2 / 400 + second.var() / second.mean() ** 2 / 300)
    assert ratio.high - ratio.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
