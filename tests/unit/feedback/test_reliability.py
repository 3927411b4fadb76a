"""Reliability of simulated labellers whose true reliability is known."""

from __future__ import annotations

import numpy as np
import pytest

from chatwright.feedback.merge import merge
from chatwright.feedback.reliability import LEAST_PAIRS, gold_scores, reliabilities, too_fast_share, weights_of
from chatwright.records import WeakOrder

Simulated = tuple[list[dict[str, WeakOrder]], list[WeakOrder]]


def simulated(truths: dict[str, float], *, num: int, seed: int, k: int = 4) -> Simulated:
    """Tasks in which each labeller reads with his chance, else ranks at random; and the true orders."""
    draw = np.random.default_rng(seed)
    items, gold = [], []
    for _ in range(num):
        strengths = draw.normal(scale=2.0, size=k)
        gold.append(WeakOrder.from_scores([float(s) for s in strengths], 0.5))
        item = {}
        for name, reads in truths.items():
            seen = strengths + draw.gumbel(scale=0.5, size=k) if draw.random() < reads else draw.normal(scale=2.0, size=k)
            item[name] = WeakOrder.from_scores([float(s) for s in seen], 0.5)
        items.append(item)
    return items, gold


@pytest.mark.parametrize("seed", range(3))
def test_a_random_clicker_gets_a_low_reliability(seed: int) -> None:
    items, _ = simulated({"ann": 1.0, "ben": 1.0, "cy": 0.9, "clicker": 0.0}, num=60, seed=seed)
    found = reliabilities(items)
    assert found["clicker"].value < 0.35
    assert min(found[name].value for name in ("ann", "ben", "cy")) > 0.7
    assert found["ann"].num_pairs == 60 * 6


def test_reliability_follows_how_often_somebody_reads() -> None:
    truths = {"a": 1.0, "b": 0.95, "c": 0.7, "d": 0.4, "e": 0.05}
    found = reliabilities(simulated(truths, num=200, seed=5)[0])
    values = [found[name].value for name in "abcde"]
    assert min(values[:2]) > values[2] > values[3] > values[4]


@pytest.mark.parametrize("seed", range(3))
def test_two_rankings_per_task_are_enough(seed: int) -> None:
    items, _ = simulated({"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.9, "clicker": 0.0}, num=150, seed=seed)
    draw = np.random.default_rng(seed)
    few = [{name: item[name] for name in draw.choice(sorted(item), 2, replace=False)} for item in items]
    found = reliabilities(few)
    assert found["clicker"].value < 0.4 and min(found[name].value for name in "abcd") > 0.6


def test_pairs_of_a_long_ranking_are_not_taken_for_independent() -> None:
    """Each of the 28 pairs of 8 answers counted in full, readers would come out as clickers half of the time."""
    truths = {"a": 1.0, "b": 0.95, "c": 0.7, "d": 0.4, "e": 0.05}
    errors = []
    for seed in range(3):
        items, _ = simulated(truths, num=100, seed=seed, k=8)
        draw = np.random.default_rng(seed)
        found = reliabilities([{name: item[name] for name in draw.choice(sorted(item), 2, replace=False)} for item in items])
        errors += [abs(found[name].value - truth) for name, truth in truths.items()]
    assert np.mean(errors) < 0.11


def test_one_who_turns_every_order_round_is_not_reliable() -> None:
    items, _ = simulated({"ann": 1.0, "ben": 1.0, "cy": 1.0}, num=60, seed=4)
    for item in items:
        top = max(rank for rank in item["cy"].ranks if rank is not None)
        item["cy"] = WeakOrder.from_ranks([top - (rank or 0) for rank in item["cy"].ranks])
    assert reliabilities(items)["cy"].value < 0.2


def test_one_who_ties_everything_is_less_reliable_than_one_who_reads() -> None:
    items, _ = simulated({"ann": 1.0, "ben": 1.0, "cy": 1.0, "dora": 1.0}, num=80, seed=6)
    for item in items:
        item["dora"] = WeakOrder((1, 1, 1, 1))
    found = reliabilities(items)
    assert found["dora"].value < 0.5 < found["ann"].value


def test_weights_bring_the_merge_nearer_to_the_truth() -> None:
    items, gold = simulated({"ann": 1.0, "x": 0.0, "y": 0.0, "ben": 1.0, "z": 0.0}, num=80, seed=7)
    weights = weights_of(reliabilities(items))

    def mean_tau(given: dict[str, float] | None) -> float:
        merged = [merge(list(item.items()), "plackett_luce", weights=given).order for item in items]
        return float(np.mean(gold_scores(list(zip(merged, gold, strict=True)))))

    assert mean_tau(weights) > mean_tau(None) + 0.05


def test_too_few_shared_pairs_give_no_figure() -> None:
    order = WeakOrder((1, 2, 3, 4))
    assert reliabilities([]) == {} and reliabilities([{"ann": order}] * 50) == {}
    few = reliabilities([{"ann": order, "ben": order}])
    assert few == {} and LEAST_PAIRS > 6


def test_gold_and_speed() -> None:
    gold = WeakOrder((1, 2, 3))
    assert gold_scores([(gold, gold), (WeakOrder((3, 2, 1)), gold), (WeakOrder((1, 1, 1)), gold)]) == [1.0, -1.0, 0.0]
    assert too_fast_share([1.0, 2.0, 30.0, 0.4], 2.0) == 0.5 and too_fast_share([], 2.0) == 0.0
