"""Merging rankings: textbook elections, ties, neutrality, determinism, and choix for the fitted strengths."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatwright.errors import DataError
from chatwright.feedback.merge import Merged, Method, merge, needs_adjudication
from chatwright.records import LETTERS, WeakOrder

METHODS: tuple[Method, ...] = ("ranked_pairs", "borda", "bradley_terry", "plackett_luce")


def named(*texts: str, unranked: str = "") -> list[tuple[str, WeakOrder]]:
    k = len([c for c in texts[0] if c in LETTERS]) + len(unranked)
    return [(f"labeller {n}", WeakOrder.parse(text, k, unranked)) for n, text in enumerate(texts)]


def votes(**counts: int) -> list[tuple[str, WeakOrder]]:
    """`ABC=3`: three labellers who say A>B>C."""
    texts = [">".join(letters) for letters, num in counts.items() for _ in range(num)]
    return named(*texts)


orders_of = st.integers(2, 6).flatmap(
    lambda k: st.lists(st.lists(st.integers(1, k), min_size=k, max_size=k).map(WeakOrder.from_ranks), min_size=1, max_size=5)
)


@pytest.mark.parametrize("method", METHODS)
@given(orders=orders_of)
def test_merging_does_not_favour_letters_or_sequence(method: Method, orders: list[WeakOrder]) -> None:
    given_ = [(f"labeller {n}", order) for n, order in enumerate(orders)]
    found = merge(given_, method)
    assert merge(list(reversed(given_)), method) == found
    turned = [(name, WeakOrder(tuple(reversed(order.ranks)))) for name, order in given_]
    assert merge(turned, method).order.ranks == tuple(reversed(found.order.ranks))


@pytest.mark.parametrize("method", METHODS)
@given(order=st.lists(st.integers(1, 5), min_size=2, max_size=9).map(WeakOrder.from_ranks), num=st.integers(1, 4))
def test_what_all_say_is_kept(method: Method, order: WeakOrder, num: int) -> None:
    found = merge([(f"labeller {n}", order) for n in range(num)], method)
    if method in ("ranked_pairs", "borda"):
        assert found.order == order
    else:  # fitted strengths: nobody is turned round, ties may be wider
        strict = set(found.order.strict_pairs())
        assert strict <= set(order.strict_pairs())
    assert found.agreement == (None if num == 1 else 1.0) and found.cycle == ()


@pytest.mark.parametrize("method", METHODS)
def test_ties_that_all_gave_survive(method: Method) -> None:
    assert str(merge(named("D>C>A=B", "D>C>A=B", "D>C>A=B"), method).order) == "D>C>A=B"


def test_ranked_pairs_tennessee() -> None:
    """The textbook election of the capital: Memphis, Nashville, Chattanooga, Knoxville -> N, C, K, M."""
    found = merge(votes(ABCD=42, BCDA=26, CDBA=15, DCBA=17))
    assert str(found.order) == "B>C>D>A" and found.cycle == ()
    assert found.detail["margins"]["B>A"] == 58 - 42 == 16 and found.detail["margins"]["C>D"] == 83 - 17


def test_ranked_pairs_breaks_a_circle_at_its_weakest_majority_and_reports_it() -> None:
    # A over B by 8, B over C by 6, C over A by 4.
    found = merge(votes(ABC=7, BCA=6, CAB=5))
    assert found.cycle == ("A", "B", "C") and str(found.order) == "A>B>C"
    assert found.detail["left_out"] == ["C>A"]
    assert needs_adjudication(found, below=0.0)


def test_a_circle_of_equal_majorities_is_a_tie() -> None:
    found = merge(votes(ABC=1, BCA=1, CAB=1))
    assert str(found.order) == "A=B=C" and found.cycle == ("A", "B", "C")
    # The answer below the circle stays below it.
    assert str(merge(named("A>B>C>D", "B>C>A>D", "C>A>B>D")).order) == "A=B=C>D"


def test_more_ties_than_winners_is_no_majority() -> None:
    assert str(merge(named("A=B>C", "A=B>C", "A>B>C")).order) == "A=B>C"
    assert str(merge(named("A=B>C", "A>B>C", "A>B>C")).order) == "A>B>C"


def test_condorcet_winner_wins_ranked_pairs_but_not_always_borda() -> None:
    given_ = votes(ABC=3, BCA=2)
    assert str(merge(given_).order) == "A>B>C"
    assert str(merge(given_, "borda").order) == "B>A>C"


def test_unranked_answers_stay_unranked() -> None:
    for method in METHODS:
        found = merge(named("A>B", "A>B", unranked="C"), method)
        assert str(found.order) == "A>B" and found.order.unranked == ("C",)
    partial = [("ann", WeakOrder((1, 2, None))), ("ben", WeakOrder((None, 1, 2)))]
    assert str(merge(partial).order) == "A>B>C"


def test_bradley_terry_strengths_equal_choix() -> None:
    given_ = named("A>B>C>D", "B>A>D>C", "D>A>C>B", "C>B>A>D")
    found = merge(given_, "bradley_terry")
    pairs = [pair for _, order in given_ for pair in order.strict_pairs()]
    expected = choix.opt_pairwise(4, pairs, alpha=0.0, tol=1e-12)
    assert found.detail["regularised"] is False
    assert np.allclose(list(found.detail["strengths"].values()), expected - expected.mean(), atol=1e-6)


def test_bradley_terry_without_finite_strengths_equals_choix_with_its_penalty() -> None:
    given_ = named("A>B>C", "A>B>C")
    expected = choix.opt_pairwise(3, [p for _, o in given_ for p in o.strict_pairs()], alpha=0.05, tol=1e-12)
    found = merge(given_, "bradley_terry")
    assert found.detail["regularised"] is True
    assert np.allclose(list(found.detail["strengths"].values()), expected - expected.mean(), atol=1e-6)


@pytest.mark.parametrize("method", ["bradley_terry", "plackett_luce"])
def test_fitted_strengths_tie_where_ties_are_likelier_than_either_way(method: Method) -> None:
    given_ = named("A=B>C", "A=B>C", "A>B>C", "A=B>C")
    found = merge(given_, method)
    assert str(found.order) == "A=B>C" and found.detail["strengths"]["A"] > found.detail["strengths"]["B"] + 0.1
    assert str(merge(named("A>B>C", "A>B>C", "A=B>C"), method).order) == "A>B>C"


@pytest.mark.parametrize("method", ["bradley_terry", "plackett_luce"])
def test_reliability_weighs_labellers(method: Method) -> None:
    given_ = [("ann", WeakOrder((1, 2, 3))), ("ben", WeakOrder((3, 2, 1))), ("cy", WeakOrder((3, 2, 1)))]
    assert str(merge(given_, method).order) == "C>B>A"
    assert str(merge(given_, method, weights={"ann": 0.9, "ben": 0.05, "cy": 0.0}).order) == "A>B>C"
    assert str(merge(given_[:1], method, weights={"ann": 0.0}).order) == "A>B>C"


def test_which_tasks_go_to_adjudication() -> None:
    sure = merge(named("A>B>C", "A>B>C"))
    torn = merge(named("A>B>C", "C>B>A"))
    alone = merge(named("A>B>C"))
    assert not needs_adjudication(sure, below=0.6) and needs_adjudication(torn, below=0.6)
    assert torn.agreement == 0.0 and not needs_adjudication(torn, below=0.0)
    assert not needs_adjudication(alone, below=0.6)
    assert not needs_adjudication(Merged(order=alone.order, agreement=0.6), below=0.6)


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(DataError, match="no ranking"):
        merge([])
    with pytest.raises(DataError, match="twice"):
        merge([("ann", WeakOrder((1, 2))), ("ann", WeakOrder((2, 1)))])
    with pytest.raises(DataError, match="different numbers"):
        merge([("ann", WeakOrder((1, 2))), ("ben", WeakOrder((2, 1, 3)))])
    with pytest.raises(DataError, match="not one of ranked_pairs"):
        merge(named("A>B"), "dictator")  # type: ignore[arg-type]
