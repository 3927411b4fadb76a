from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.evals.metrics import (
    _prefixes,
    distinct_n,
    duplicate_pairs,
    duplicate_share,
    equal_budget,
    mean_grade,
    normalised,
    num_words,
    units,
)


def test_units_are_words_and_single_characters() -> None:
    assert units("It's A-1 你好!") == ["it's", "a", "1", "你", "好"]
    assert num_words("It's a cat.") == 3 and num_words("你好，X。", "zh") == 2


def test_distinct_2() -> None:
    assert distinct_n(["a b a b"]) == pytest.approx(2 / 3)
    assert distinct_n(["a b", "b a"]) == 1.0, "no bigram crosses from one text into the next"
    assert distinct_n(["a b", "A, b!"]) == 0.5
    assert distinct_n(["", "a"]) == 0.0


def test_equal_budget_makes_long_and_short_sets_comparable() -> None:
    short, long = ["one two three four"], ["one two three four one two three four one two three four"]
    budget = equal_budget(short, long)
    assert budget == 4
    assert distinct_n(long) < distinct_n(long, budget=budget) == distinct_n(short, budget=budget) == 1.0


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=6), max_size=6), st.integers(0, 40))
def test_prefixes_spend_the_budget_evenly(rows: list[list[str]], budget: int) -> None:
    kept = _prefixes(rows, budget)
    assert sum(map(len, kept)) == min(budget, sum(map(len, rows)))
    assert all(row[: len(prefix)] == prefix for row, prefix in zip(rows, kept, strict=True))
    cut = [len(prefix) for row, prefix in zip(rows, kept, strict=True) if len(prefix) < len(row)]
    assert not cut or max(map(len, kept)) <= min(cut) + 1


def test_duplicates() -> None:
    answers = [["It is hot.", "x"], ["y", "it is  HOT"], ["z", "z"]]
    assert normalised("It is, hot!") == "it is hot"
    assert duplicate_pairs(answers) == [(0, 1)]
    assert duplicate_share(answers) == pytest.approx(4 / 6)
    assert duplicate_share([]) == 0.0


def test_mean_grade_skips_answers_without_words() -> None:
    assert mean_grade(["The cat sat.", "", "..."]) == mean_grade(["The cat sat."])
