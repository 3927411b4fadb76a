"""Weak orders: the shared vectors, and properties over all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.records import LETTERS, WeakOrder

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "weak_orders.json").read_text(encoding="utf-8"))


@st.composite
def orders(draw: st.DrawFn) -> WeakOrder:
    ranks = draw(st.lists(st.none() | st.integers(0, 8), min_size=2, max_size=9).filter(any_ranked))
    return WeakOrder.from_ranks(ranks)


def any_ranked(ranks: list[int | None]) -> bool:
    return any(rank is not None for rank in ranks)


@pytest.mark.parametrize("case", VECTORS["valid"], ids=lambda case: case["text"])
def test_valid_vectors(case: dict[str, Any]) -> None:
    order = WeakOrder.parse(case["text"], case["k"], case["unranked"])
    assert list(order.ranks) == case["ranks"]
    assert str(order) == case["canonical"]
    assert [list(pair) for pair in order.pairs()] == case["pairs"]


@pytest.mark.parametrize("case", VECTORS["invalid"], ids=lambda case: case["text"] or "empty")
def test_invalid_vectors(case: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=case["error"]):
        WeakOrder.parse(case["text"], case["k"], case["unranked"])


@given(orders())
def test_printing_and_parsing_round_trip(order: WeakOrder) -> None:
    assert WeakOrder.parse(str(order), order.k, order.unranked) == order
    assert str(WeakOrder.parse(str(order), order.k, order.unranked)) == str(order)


@given(orders())
def test_one_order_has_one_spelling(order: WeakOrder) -> None:
    levels = [[LETTERS[i] for i in level] for level in order.levels()]
    shuffled = ">".join("=".join(reversed(level)) for level in levels)
    assert str(WeakOrder.parse(shuffled.lower(), order.k, order.unranked)) == str(order)
    assert all(level == sorted(level) for level in levels)


@given(orders())
def test_pairs_are_all_pairs_of_ranked_answers_and_agree_with_the_levels(order: WeakOrder) -> None:
    ranked = [i for i, rank in enumerate(order.ranks) if rank is not None]
    pairs = order.pairs()
    assert [(i, j) for i, j, _ in pairs] == [(i, j) for i in ranked for j in ranked if i < j]
    for i, j, relation in pairs:
        rank_i, rank_j = order.ranks[i], order.ranks[j]
        assert rank_i is not None and rank_j is not None
        assert relation == (1 if rank_i < rank_j else -1 if rank_i > rank_j else 0)
    assert set(order.strict_pairs()) == {(i, j) if r > 0 else (j, i) for i, j, r in pairs if r}


@given(orders(), st.randoms())
def test_answers_can_be_renamed(order: WeakOrder, random: Any) -> None:
    """A ranking of shuffled answers says the same about them: letters are places in `completions`, nothing more."""
    places = list(range(order.k))
    random.shuffle(places)
    moved = WeakOrder(tuple(order.ranks[i] for i in places))
    back = {(places[i], places[j]) for i, j in moved.strict_pairs()}
    assert back == set(order.strict_pairs())


@given(st.lists(st.none() | st.floats(-5, 5), min_size=2, max_size=9).filter(any_ranked), st.floats(0, 2))
def test_scores_become_levels_no_wider_than_the_tie_width(scores: list[float | None], width: float) -> None:
    order = WeakOrder.from_scores(scores, width)
    for level in order.levels():
        values = [score for i in level if (score := scores[i]) is not None]
        assert len(values) == len(level) and max(values) - min(values) <= width
    for i, j in order.strict_pairs():
        left, right = scores[i], scores[j]
        assert left is not None and right is not None and left > right


def test_scores_and_ranks_by_hand() -> None:
    assert str(WeakOrder.from_scores([0.1, 0.9, 0.5, 0.5])) == "B>C=D>A"
    assert str(WeakOrder.from_scores([0.0, 0.4, 0.8, 1.2], tie_width=0.5)) == "C=D>A=B"
    assert str(WeakOrder.from_scores([-math.pi, None, -math.pi])) == "A=C"
    assert str(WeakOrder.from_ranks([7, 0, 7, 3])) == "B>D>A=C"
    assert WeakOrder.from_ranks([None, 4, None]).ranks == (None, 1, None)


@pytest.mark.parametrize("scores", [[math.nan, 1.0], [math.inf, 1.0], [1.0], [None, None], [1.0] * 10])
def test_scores_that_are_no_ranking(scores: list[float | None]) -> None:
    with pytest.raises(DataError):
        WeakOrder.from_scores(scores)


def test_levels_must_be_dense_and_tie_width_a_width() -> None:
    with pytest.raises(DataError, match="without a gap"):
        WeakOrder((1, 3))
    with pytest.raises(DataError, match="without a gap"):
        WeakOrder((0, 1))
    for width in (-0.1, math.nan):
        with pytest.raises(DataError, match="tie_width"):
            WeakOrder.from_scores([1.0, 2.0], width)


def test_an_all_tied_ranking_has_no_strict_pair() -> None:
    order = WeakOrder.parse("A=B=C=D", 4)
    assert order.strict_pairs() == () and len(order.pairs()) == 6
