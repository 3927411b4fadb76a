from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from chatwright.statistics.sign_flips import sign_flip_p


def test_it_counts_the_sign_vectors() -> None:
    values = np.array([3.0, -1.0, 2.0, 0.5])
    flips = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product((-1, 1), repeat=4)]
    assert sign_flip_p(values) == np.mean([flip >= values.sum() for flip in flips])
    assert sign_flip_p(np.array([1.0] * 10)) == 1 / 1024
    assert sign_flip_p(np.zeros(5)) == 1.0
    assert sign_flip_p(-np.ones(6)) == 1.0


def test_drawn_flips_come_near_and_never_say_nought() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 14)
    signs = np.array(list(product((-1.0, 1.0), repeat=14)))
    exact = float((signs @ values >= values.sum() - 1e-9).mean())
    assert sign_flip_p(values) == pytest.approx(exact, abs=0.015)
    assert sign_flip_p(np.ones(40)) == 1 / 10_000


def test_many_data_sets_at_once() -> None:
    values = np.random.default_rng(1).normal(size=(7, 9))
    assert sign_flip_p(values).tolist() == [float(sign_flip_p(row)) for row in values]
