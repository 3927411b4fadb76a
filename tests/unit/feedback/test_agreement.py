"""Agreement of weak orders: closed forms against scipy, the rule of ties, intervals."""

from __future__ import annotations

import itertools
import math
import random
import warnings

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from chatwright.feedback.agreement import (
    agreement_between,
    agreement_with_rest,
    item_agreement,
    kendall_tau_b,
    mean_correlation,
    pair_counts,
    percent_agreement,
    relation_alpha,
    spearman_rho,
)
from chatwright.feedback.krippendorff import alpha
from chatwright.records import LETTERS, WeakOrder


def order(text: str, unranked: str = "") -> WeakOrder:
    return WeakOrder.parse(text, len([c for c in text if c in LETTERS]) + len(unranked), unranked)


@st.composite
def two_orders(draw: st.DrawFn, partial: bool = False) -> tuple[WeakOrder, WeakOrder]:
    k = draw(st.integers(2, 9))
    rank = st.one_of(st.integers(1, k), st.none()) if partial else st.integers(1, k)
    ranks = st.lists(rank, min_size=k, max_size=k).filter(lambda found: any(r is not None for r in found))
    return WeakOrder.from_ranks(draw(ranks)), WeakOrder.from_ranks(draw(ranks))


@given(two_orders(partial=True))
def test_closed_forms_equal_scipy(orders: tuple[WeakOrder, WeakOrder]) -> None:
    a, b = orders
    shared = [i for i in range(a.k) if a.ranks[i] is not None and b.ranks[i] is not None]
    x, y = [a.ranks[i] for i in shared], [b.ranks[i] for i in shared]
    if len(shared) < 2 or len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(kendall_tau_b(a, b)) and math.isnan(spearman_rho(a, b))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tau = scipy.stats.kendalltau(x, y, variant="b").statistic
        rho = scipy.stats.spearmanr(x, y).statistic
    assert kendall_tau_b(a, b) == pytest.approx(tau, abs=1e-9)
    assert spearman_rho(a, b) == pytest.approx(rho, abs=1e-9)


@given(two_orders(partial=True))
def test_agreement_is_symmetric_and_full_with_oneself(orders: tuple[WeakOrder, WeakOrder]) -> None:
    a, b = orders
    assert pair_counts(a, b) == pair_counts(b, a)
    own = pair_counts(a, a)
    assert own.same == own.num and own.same_strict == own.num_strict


def test_the_rule_of_ties() -> None:
    counts = pair_counts(order("A>B>C"), order("A>B=C"))
    assert (counts.num, counts.same) == (3, 2)  # tied against better is a disagreement
    assert (counts.num_strict, counts.same_strict) == (2, 2)  # without ties that pair is not counted
    both_tied = pair_counts(order("A=B>C"), order("C>A=B"))
    assert (both_tied.num, both_tied.same, both_tied.num_strict) == (3, 1, 2)


def test_unranked_answers_make_no_pair() -> None:
    counts = pair_counts(order("A>B", "C"), order("C>B>A"))
    assert (counts.num, counts.same) == (1, 0)
    assert item_agreement({"ann": order("A>B", "C"), "ben": order("C>A", "B")}) is None


ITEMS = [
    {"ann": order("A>B>C"), "ben": order("A>B>C"), "cy": order("C>B>A")},
    {"ann": order("A=B>C"), "ben": order("A>B>C")},
    {"ann": order("B>A")},
]


def test_percent_agreement_counts_labeller_pairs_of_all_items() -> None:
    found = percent_agreement(ITEMS)
    # First item: ann and ben 3 of 3, each with cy 0 of 3; second: 2 of 3; third: nobody to compare with.
    assert found is not None and found.value == pytest.approx(5 / 12)
    assert found.low <= found.value <= found.high
    strict = percent_agreement(ITEMS, without_ties=True)
    assert strict is not None and strict.value == pytest.approx(5 / 11)
    assert percent_agreement(ITEMS[2:]) is None and percent_agreement([]) is None


def test_one_labeller_with_the_rest_and_group_with_group() -> None:
    rest = agreement_with_rest(ITEMS, "cy")
    assert rest is not None and rest.value == 0.0
    ann = agreement_with_rest(ITEMS, "ann")
    assert ann is not None and ann.value == pytest.approx(5 / 9)
    between = agreement_between(ITEMS, {"ann", "ben"}, {"cy"})
    assert between is not None and between.value == 0.0
    assert agreement_between(ITEMS, {"ann"}, {"dora"}) is None


def test_correlation_leaves_undefined_ones_out() -> None:
    items = [{"ann": order("A>B"), "ben": order("A=B")}, {"ann": order("A>B"), "ben": order("A>B")}]
    found = mean_correlation(items, kendall_tau_b)
    assert found is not None and found.value == 1.0
    assert mean_correlation(items[:1], spearman_rho) is None


def _clickers(num: int, seed: int) -> list[dict[str, WeakOrder]]:
    draw = random.Random(seed)
    return [
        {name: WeakOrder.from_ranks([draw.randint(1, 3) for _ in range(4)]) for name in ("ann", "ben", "cy")}
        for _ in range(num)
    ]


def test_alpha_of_random_clickers_is_near_zero_and_of_copies_one() -> None:
    items = _clickers(300, seed=1)
    for metric in ("nominal", "ordinal"):
        found = relation_alpha(items, metric, draws=200)
        assert found is not None and abs(found.value) < 0.06 and found.low < 0.02
        copies = relation_alpha([dict.fromkeys(item, item["ann"]) for item in items], metric, draws=20)
        assert copies is not None and copies.value == pytest.approx(1.0)


def test_alpha_of_pairs_is_krippendorffs_of_the_same_units() -> None:
    items = [*_clickers(9, seed=8), ITEMS[1], ITEMS[2]]
    units = []
    for item in items:
        for i, j in itertools.permutations(range(4), 2):
            relations = [{(a, b): r for a, b, r in order.pairs()} for order in item.values()]
            units.append([r.get((i, j), -r[j, i] if (j, i) in r else None) for r in relations])
    for metric in ("nominal", "ordinal"):
        found = relation_alpha(items, metric, draws=2)
        assert found is not None and found.value == pytest.approx(alpha(units, metric), abs=1e-12)


@given(st.permutations(range(4)))
def test_alpha_does_not_depend_on_the_letters(places: list[int]) -> None:
    items = _clickers(12, seed=2)
    renamed = [
        {name: WeakOrder.from_ranks([found.ranks[i] for i in places]) for name, found in item.items()} for item in items
    ]
    for metric in ("nominal", "ordinal"):
        one, other = relation_alpha(items, metric, draws=2), relation_alpha(renamed, metric, draws=2)
        assert one is not None and other is not None and one.value == pytest.approx(other.value)


def test_intervals_are_a_function_of_the_seed_and_narrow_with_more_items() -> None:
    few, many = _clickers(20, seed=3), _clickers(400, seed=3)
    assert percent_agreement(few, seed=5) == percent_agreement(few, seed=5)
    narrow, wide = percent_agreement(many, draws=300), percent_agreement(few, draws=300)
    assert narrow is not None and wide is not None and narrow.high - narrow.low < wide.high - wide.low
