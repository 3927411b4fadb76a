from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from chatwright.errors import DataError
from chatwright.evals.winrate import _fit_logistic, length_controlled_win_rate, win_rate


def test_wins_ties_and_losses() -> None:
    rate = win_rate([[1.0, 0.5]], [[0.5, 0.0]])
    assert rate.rate == (1 + 1 + 0.5 + 1) / 4
    assert rate.n == 4 and rate.questions == 1 and rate.ties == 0.25


def test_float_noise_is_a_tie() -> None:
    assert win_rate([[0.1 + 0.2]], [[0.3]]).rate == 0.5


scores = st.lists(st.lists(st.integers(0, 3).map(float), min_size=2, max_size=2), min_size=1, max_size=8)


@given(scores, st.randoms())
def test_the_two_sides_add_up_to_one(a: list[list[float]], random: object) -> None:
    b = [row[::-1] for row in a[::-1]]
    there, back = win_rate(a, b, draws=50), win_rate(b, a, draws=50)
    assert there.rate + back.rate == pytest.approx(1.0)
    assert there.low == pytest.approx(1 - back.high)
    assert 0 <= there.low <= there.rate <= there.high <= 1


@given(scores)
def test_against_itself_it_is_one_half(a: list[list[float]]) -> None:
    assert win_rate(a, a, draws=20).rate == 0.5


def test_interval_is_by_question() -> None:
    random = np.random.default_rng(0)
    a, b = random.random((60, 4)) + 0.1, random.random((60, 4))
    one = win_rate(a.tolist(), b.tolist())
    copied = win_rate(np.repeat(a, 5, axis=1).tolist(), np.repeat(b, 5, axis=1).tolist())
    assert (one.low, one.high) == (pytest.approx(copied.low), pytest.approx(copied.high))
    assert one.low < one.rate < one.high
    assert one == win_rate(a.tolist(), b.tolist())
    assert one != win_rate(a.tolist(), b.tolist(), seed=1)


def test_bad_input() -> None:
    for a, b in (([], []), ([[1.0]], []), ([[1.0]], [[]]), ([[float("nan")]], [[1.0]])):
        with pytest.raises(DataError):
            win_rate(a, b)


def test_logistic_fit_agrees_with_scipy() -> None:
    random = np.random.default_rng(3)
    feature, target = random.normal(size=200), random.choice([0.0, 0.5, 1.0], size=200)

    def loss(params: np.ndarray) -> float:
        z = params[0] + params[1] * feature
        return float(np.sum(np.logaddexp(0, z) - target * z) + 0.5 * 1e-2 * (params**2).sum())

    theirs = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    assert _fit_logistic(feature, target) == pytest.approx(tuple(theirs), abs=1e-4)


def test_length_control_takes_the_effect_of_length_out() -> None:
    """A's answers are no better, only longer, and the judge likes length."""
    random = np.random.default_rng(2)
    quality_a, quality_b = random.normal(size=(150, 3)), random.normal(size=(150, 3))
    words_a, words_b = random.normal(34, 8, size=(150, 3)), random.normal(30, 8, size=(150, 3))
    a, b = quality_a + 0.3 * words_a, quality_b + 0.3 * words_b
    plain = win_rate(a.tolist(), b.tolist())
    controlled = length_controlled_win_rate(a.tolist(), b.tolist(), words_a.tolist(), words_b.tolist(), draws=50)
    assert plain.rate > 0.62
    assert abs(controlled.rate - 0.5) < 0.05
    assert controlled.low < 0.5 < controlled.high
    assert controlled.n == plain.n


def test_length_control_stays_finite_when_one_side_always_wins() -> None:
    rate = length_controlled_win_rate([[1.0]] * 5, [[0.0]] * 5, [[3.0]] * 5, [[3.0]] * 5, draws=10)
    assert 0.9 < rate.rate < 1.0
    with pytest.raises(DataError):
        length_controlled_win_rate([[1.0]], [[0.0]], [[1.0, 2.0]], [[1.0]])
