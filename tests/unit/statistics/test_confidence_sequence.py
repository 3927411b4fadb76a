from __future__ import annotations

import numpy as np
import pytest

from chatwright.errors import DataError
from chatwright.statistics.confidence_sequence import log_capital, mean_bounds


def test_bounds_hold_at_every_look() -> None:
    """200 sequences of 120 votes, looked at after every fifth: the true mean is ever missed in at most 5 % of them."""
    random, missed = np.random.default_rng(0), {"low": 0, "high": 0}
    for _ in range(200):
        votes = random.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=120)
        bounds = [mean_bounds(votes[:n], alpha=0.025) for n in range(5, 121, 5)]
        missed["low"] += any(low > 0.6 for low, _ in bounds)
        missed["high"] += any(high < 0.6 for _, high in bounds)
    assert missed["low"] <= 200 * 0.05 and missed["high"] <= 200 * 0.05


def test_they_close_in_and_do_not_depend_on_the_order() -> None:
    votes = np.array([1.0] * 70 + [0.0] * 30)
    low, high = mean_bounds(votes, alpha=0.025)
    assert 0.53 < low < 0.6 and 0.8 < high < 0.85
    assert mean_bounds(votes[::-1], alpha=0.025) == pytest.approx((low, high))
    assert mean_bounds(np.array([]), alpha=0.025) == pytest.approx((0.0, 1.0))
    assert mean_bounds(np.ones(5), alpha=0.025)[1] == pytest.approx(1.0)
    assert mean_bounds(np.ones(2), alpha=0.025)[0] < 0.2


def test_capital_is_fair_at_the_true_mean() -> None:
    one = [np.exp(log_capital(np.array([x]), np.array([1]), 0.5)) for x in (0.0, 1.0)]
    assert np.mean(one) == pytest.approx(1.0)


def test_values_out_of_range() -> None:
    with pytest.raises(DataError):
        mean_bounds(np.array([1.5]), alpha=0.05)
    with pytest.raises(DataError):
        mean_bounds(np.array([float("nan")]), alpha=0.05)
