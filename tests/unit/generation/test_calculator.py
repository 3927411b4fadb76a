"""Arithmetic: exact, bounded, and never in doubt about what is wrong."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.generation.calculator import calculate


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("3457 * 43216", "3457 × 43216 = 149397712"),
        ("3,457 × 43,216", "3457 × 43216 = 149397712"),
        ("3457 乘以 43216", "3457 × 43216 = 149397712"),
        ("１２＋３", "12 + 3 = 15"),
        ("0.1 + 0.2", "0.1 + 0.2 = 0.3"),
        ("-2^2", "-2^2 = -4"),
        ("2^3^2", "2^3^2 = 512"),
        ("2 ** -2", "2^-2 = 0.25"),
        ("-7 // 2", "-7 // 2 = -4"),
        ("-7 % 3", "-7 % 3 = 2"),
        ("10% of 50", "10% × 50 = 5"),
        ("100 - 10%", "100 - 10% = 99.9"),
        ("(1 + 2) * 3", "(1 + 2) × 3 = 9"),
        ("sqrt(1/4)", "sqrt(1 / 4) = 0.5"),
        ("sqrt 2", "sqrt 2 ≈ 1.41421356237"),
        ("4^1.5", "4^1.5 = 8"),
        ("1/3", "1 / 3 ≈ 0.333333333333"),
        ("1/3 * 3", "1 / 3 × 3 = 1"),
        ("12 divided by 4 plus 1", "12 / 4 + 1 = 4"),
        ("2的10次方", "2^10 = 1024"),
        ("9的平方根", "9的平方根 = 3"),
        ("1^999999999", "1^999999999 = 1"),
    ],
)
def test_results(expression: str, said: str) -> None:
    assert str(calculate(expression)) == said


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("1/0", "division by zero"),
        ("5 % 0 + 1", "ends|division|expected"),
        ("0^-1", "division by zero"),
        ("(1", "not closed"),
        ("1 +", "ends where a number is expected"),
        ("3 4", "'4' is not expected"),
        ("import os", "'import os' is neither a number nor an operator"),
        ("", "ends where a number is expected"),
        ("2**99999", "1,000 digits"),
        ("9**9**9**9", "1,000 digits"),
        ("10^999 * 10^999", "1,000 digits"),
        ("9" * 1001, "1,000 digits"),
        ("1e9999", "1,000 digits"),
        ("2.5^(10^300)", "1,000 digits"),
        ("(" * 60 + "1" + ")" * 60, "nested more than 50 deep"),
        ("-" * 60 + "1", "nested more than 50 deep"),
        ("1+" * 1500 + "1", "characters"),
        ("sqrt(-1)", "negative"),
        ("(-8)^(1/3)", "negative"),
    ],
)
def test_what_is_wrong_is_named_at_once(expression: str, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match=said):
        calculate(expression)
    assert time.monotonic() - started < 20


numbers = st.integers(min_value=0, max_value=10**30).map(str) | st.decimals(0, 10**6, places=3).map(str)
expressions = st.recursive(
    numbers, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner), max_leaves=8
)


@given(expressions)
def test_agrees_with_fractions(expression: str) -> None:
    """The oracle is Python's own arithmetic over the same text, with every number made a Fraction."""
    import re

    made = re.sub(r"[0-9]+(?:\.[0-9]+)?", lambda m: f"Fraction('{m.group()}')", expression)
    wanted = eval(made, {"Fraction": Fraction})  # our own text, not a user's
    found = calculate(expression)
    assert not found.exact or Fraction(found.result) == wanted
    assert found.exact, "sums and products of finite decimals are finite decimals"


@given(st.text(alphabet="0123456789+-*/%^(). e,xsqrt乘加减", max_size=60))
def test_any_text_gives_a_result_or_a_clear_error(text: str) -> None:
    try:
        assert calculate(text).result
    except DataError as error:
        assert str(error).startswith("calculator: ")
