"""Krippendorff's alpha against the tables its author published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import ConfigError
from chatwright.feedback.krippendorff import Metric, alpha, alpha_of, coincidences

Rows = list[list[float | None]]


def units(*observers: str) -> Rows:
    """One row of marks per observer ("." is missing) -> the values of each unit."""
    marks = [[None if mark == "." else float(ord(mark)) for mark in row.split()] for row in observers]
    return [list(unit) for unit in zip(*marks, strict=True)]


def numbers(*observers: str) -> Rows:
    marks = [[None if mark == "." else float(mark) for mark in row.split()] for row in observers]
    return [list(unit) for unit in zip(*marks, strict=True)]


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), examples A to D.
BINARY = numbers("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
LETTERS = units("a a b b d c c c e d d a", "b a b b b c c c e d d d")
FOUR = numbers(
    "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."
)
# The example of the encyclopedia article on the measure: three coders, fifteen units, most values missing.
SPARSE = numbers(
    ". . . . . 3 4 1 2 1 1 3 3 . 3", "1 . 2 1 3 3 4 3 . . . . . . .", ". . 2 1 3 4 4 . 2 1 1 3 3 . 4"
)


@pytest.mark.parametrize(
    ("data", "metric", "published", "digits"),
    [
        (BINARY, "nominal", 0.095, 3),
        (LETTERS, "nominal", 0.692, 3),
        (FOUR, "nominal", 0.743, 3),
        (FOUR, "ordinal", 0.815, 3),
        (FOUR, "interval", 0.849, 3),
        (FOUR, "ratio", 0.797, 3),
        (SPARSE, "nominal", 0.691, 3),
        (SPARSE, "interval", 0.811, 3),
    ],
)
def test_published_tables(data: Rows, metric: Metric, published: float, digits: int) -> None:
    assert round(alpha(data, metric), digits) == published


def test_published_coincidences() -> None:
    """The matrix of example D, as printed."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    total = sum(coincidences([v for v in unit if v is not None], values) for unit in FOUR)
    expected = [
        [7, 4 / 3, 1 / 3, 1 / 3, 0], [4 / 3, 10, 4 / 3, 1 / 3, 0], [1 / 3, 4 / 3, 8, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3, 4, 0],
        [0, 0, 0, 0, 3],
    ]  # fmt: skip
    assert np.allclose(total, expected, atol=1e-12)


def test_nothing_to_compare_and_nothing_that_varies_are_not_a_number() -> None:
    assert math.isnan(alpha([[1.0], [2.0, None]], "nominal"))
    assert math.isnan(alpha([[1.0, 1.0], [1.0, 1.0]], "nominal"))
    assert math.isnan(alpha([], "ordinal"))


def test_unknown_metric() -> None:
    with pytest.raises(ConfigError, match="nominal, ordinal"):
        alpha_of(np.eye(2), [1.0, 2.0], "circular")  # type: ignore[arg-type]


@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=2, max_size=4), min_size=2, max_size=8))
def test_full_agreement_is_one_and_order_does_not_matter(rows: list[list[float]]) -> None:
    agreed: Rows = [[row[0]] * len(row) for row in rows]
    for metric in ("nominal", "ordinal", "interval"):
        value = alpha(agreed, metric)
        assert math.isnan(value) or value == pytest.approx(1.0)
        turned: Rows = [list(reversed(row)) for row in reversed(rows)]
        plain: Rows = [list(row) for row in rows]
        assert alpha(plain, metric) == pytest.approx(alpha(turned, metric), nan_ok=True)


@given(st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0, 7.0]), min_size=2, max_size=4), min_size=2, max_size=8))
def test_ordinal_looks_at_the_order_only(rows: list[list[float]]) -> None:
    plain: Rows = [list(row) for row in rows]
    stretched: Rows = [[value**3 for value in row] for row in rows]
    assert alpha(plain, "ordinal") == pytest.approx(alpha(stretched, "ordinal"), nan_ok=True)
