"""Plackett-Luce: equal to choix where it has the model; ties are what they are said to be."""

from __future__ import annotations

import itertools

import choix
import numpy as np
import pytest

from chatwright.feedback.plackett_luce import fit


def _rankings(seed: int, num: int, k: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    strengths = draw.normal(size=k)
    found = []
    for _ in range(num):
        size = int(draw.integers(2, k + 1))
        some = draw.choice(k, size=size, replace=False)
        noisy = strengths[some] + draw.gumbel(size=size)
        found.append([int(i) for i in some[np.argsort(-noisy)]])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_equals_choix(seed: int) -> None:
    rankings = _rankings(seed, num=60, k=6)
    found = fit([[(i,) for i in ranking] for ranking in rankings], 6)
    expected = choix.opt_rankings(6, [tuple(r) for r in rankings], alpha=0.0, tol=1e-12)
    assert not found.regularised
    assert np.allclose(found.values, expected - expected.mean(), atol=1e-6)


def test_equals_choix_with_its_penalty_where_the_orders_give_no_strengths() -> None:
    rankings = [[0, 1, 2, 3], [0, 1, 3, 2]]
    found = fit([[(i,) for i in ranking] for ranking in rankings], 4)
    expected = choix.opt_rankings(4, [tuple(r) for r in rankings], alpha=0.05, tol=1e-12)  # its penalty has no 1/2
    assert found.regularised
    assert np.allclose(found.values, expected - expected.mean(), atol=1e-6)


def test_a_tied_level_is_the_mean_over_the_strict_orders_it_leaves_open() -> None:
    tied = [[(0,), (1, 2, 3), (4,)], [(4, 0), (2,), (3, 1)]]
    strict, weights = [], []
    for levels in tied:
        orders = list(itertools.product(*(itertools.permutations(level) for level in levels)))
        strict += [[(i,) for level in order for i in level] for order in orders]
        weights += [1 / len(orders)] * len(orders)
    one, other = fit(tied, 5), fit(strict, 5, weights=np.array(weights))
    assert np.allclose(one.values, other.values, atol=1e-9)


def test_a_tie_of_two_is_half_a_win_each_way() -> None:
    one = fit([[(0, 1)], [(0,), (1,)]], 2)
    other = fit([[(0,), (1,)], [(1,), (0,)], [(0,), (1,)]], 2, weights=np.array([0.5, 0.5, 1.0]))
    assert np.allclose(one.values, other.values) and one.values[0] - one.values[1] == pytest.approx(np.log(3))


def test_weights_count_orders() -> None:
    orders = [[(0,), (1,), (2,)], [(2,), (1,), (0,)], [(1,), (0,), (2,)]]
    twice = fit([*orders, orders[0]], 3)
    assert np.allclose(fit(orders, 3, weights=np.array([2.0, 1.0, 1.0])).values, twice.values)


def test_everything_tied_is_equal() -> None:
    assert np.allclose(fit([[tuple(range(9))]], 9).values, 0)
