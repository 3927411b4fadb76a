from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from chatwright.errors import ConfigError
from chatwright.statistics.ties import fit_log_nu, relation_nll, relation_probabilities

margins = st.lists(st.floats(-30, 30), min_size=1, max_size=20).map(np.array)


@given(margins, st.sampled_from(["davidson", "rao_kupper", "drop", "soft"]), st.floats(0, 5))
def test_probabilities_sum_to_one_and_mirror(d: np.ndarray, mode: str, param: float) -> None:
    probabilities = relation_probabilities(d, mode, param)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(d)))
    assert (probabilities >= 0).all()
    assert relation_probabilities(-d, mode, param)[:, ::-1] == pytest.approx(probabilities)


def test_closed_forms() -> None:
    d, nu = 1.3, 0.7
    win, tie, loss = relation_probabilities(np.array([d]), "davidson", np.log(nu))[0]
    total = np.exp(d / 2) + nu + np.exp(-d / 2)
    assert (win, tie, loss) == pytest.approx((np.exp(d / 2) / total, nu / total, np.exp(-d / 2) / total))
    eta = 0.4
    win, tie, loss = relation_probabilities(np.array([d]), "rao_kupper", eta)[0]
    assert win == pytest.approx(np.exp(d) / (np.exp(d) + np.exp(eta)))
    assert tie == pytest.approx(1 - win - loss)


def test_davidson_without_ties_is_bradley_terry() -> None:
    d = np.array([-1.0, 0.3, 4.0])
    nll = relation_nll(d, np.array([1, 1, -1]), "davidson", -50.0)
    assert nll == pytest.approx(np.log1p(np.exp(-d * np.array([1, 1, -1]))))


def test_fit_log_nu_is_the_maximum_likelihood() -> None:
    random = np.random.default_rng(0)
    d = random.normal(scale=1.5, size=2000)
    relations = np.array(
        [random.choice([1, 0, -1], p=row) for row in relation_probabilities(d, "davidson", np.log(0.6))]
    )
    best = optimize.minimize_scalar(lambda x: relation_nll(d, relations, "davidson", x).sum(), bounds=(-5, 5)).x
    fitted = fit_log_nu(d, relations)
    assert fitted == pytest.approx(best, abs=0.01)
    assert fitted == pytest.approx(np.log(0.6), abs=0.15)


def test_fit_log_nu_stays_finite() -> None:
    assert np.isfinite(fit_log_nu(np.array([1.0, -2.0]), np.array([1, -1])))
    assert np.isfinite(fit_log_nu(np.array([1.0, -2.0]), np.array([0, 0])))
    assert fit_log_nu(np.array([]), np.array([], dtype=int)) == pytest.approx(np.log(2))


def test_bad_modes() -> None:
    with pytest.raises(ConfigError, match="tie_mode"):
        relation_probabilities(np.zeros(1), "none", 0.0)
    with pytest.raises(ConfigError, match="eta"):
        relation_probabilities(np.zeros(1), "rao_kupper", -0.1)
