"""The gate opens by chance in at most 2.5 % of cases: simulated with the gate's own code."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chatwright.evals.gate import ALPHA, MIN_PROMPTS, above_length, advantage, gate
from chatwright.statistics.sign_flips import sign_flip_p

Floats = npt.NDArray[np.float64]
PROMPTS = (MIN_PROMPTS, 12, 15, 40)
SETS = 4000  # data sets per setting


def sums(random: np.random.Generator, num: int, k: int, how: str, sets: int = SETS, skill: float = 0.0) -> list[Floats]:
    """Sums per prompt (right, longer wins, strict pairs) [S, G] of random labels, scores and lengths."""
    shape = (sets, num, k)
    quality, scores = random.random(shape), random.random(shape)
    lengths = np.zeros(shape) if how == "equal lengths" else random.lognormal(4.0, 1.0, shape).round()
    ranks = quality
    if how == "ties":
        ranks, scores = (quality * 3).round(), (scores * 4).round()
    if how == "length is informative":
        ranks = quality + 0.02 * np.log1p(lengths)
    scores = scores + skill * quality
    first, second = np.array(list(combinations(range(k), 2))).T
    relation = np.sign(ranks[..., first] - ranks[..., second])
    if how == "few strict pairs":  # one pair of a prompt counts, but every sixth prompt has them all
        keep = np.zeros(relation.shape[1:], bool)
        keep[:, 0], keep[::6] = True, True
        relation = relation * keep
    strict = relation != 0

    def won(values: Floats) -> Floats:
        difference = np.sign(values[..., first] - values[..., second])
        return (np.where(difference == 0, 0.5, difference == relation) * strict).sum(axis=-1)

    return [won(scores), won(lengths), strict.sum(axis=-1).astype(float)]


def share_open(right: Floats, longer: Floats, pairs: Floats) -> float:
    """How often the gate opens. The test comes first: where it does not reject, the gate is closed whatever the interval."""
    p = sign_flip_p(advantage(right, longer, pairs))
    opened = 0
    for n in np.flatnonzero(p <= ALPHA):
        counted = pairs[n] > 0
        found = above_length(right[n][counted], longer[n][counted], pairs[n][counted], draws=400)
        card = {"above_length": found.to_dict(), "accuracy": {"value": 0.5}, "length_baseline": 0.5}
        opened += gate(card) is None
    return opened / len(p)


HOWS = ("equal lengths", "unequal lengths", "length is informative", "ties", "few strict pairs")


@pytest.mark.parametrize("how", HOWS)
def test_random_labels_and_scores_open_it_in_at_most_two_and_a_half_per_cent(how: str) -> None:
    """4,000 data sets per setting; three standard errors of 2.5 % are 0.75 percentage points."""
    shares = {}
    for num, k in product(PROMPTS, (2, 3, 4, 9)):
        if num * k * k > 1300:  # time
            continue
        random = np.random.default_rng([num, k, HOWS.index(how)])
        shares[num, k] = share_open(*sums(random, num, k, how))
    assert max(shares.values()) <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / SETS) ** 0.5, shares
    if how == "equal lengths":  # not by being closed always
        assert max(shares.values()) > 0.005, shares


def test_a_reward_model_that_knows_something_passes() -> None:
    for num, k, skill, least in ((10, 4, 4.0, 0.8), (25, 4, 1.0, 0.8), (60, 2, 4.0, 0.8)):
        random = np.random.default_rng(num)
        assert share_open(*sums(random, num, k, "unequal lengths", sets=200, skill=skill)) > least, (num, k)


def test_the_percentile_interval_alone_would_open_it_too_often() -> None:
    """Why there is a randomisation test beside the interval."""
    right, longer, pairs = sums(np.random.default_rng(0), MIN_PROMPTS, 9, "equal lengths", sets=1000)
    low = [above_length(*rows, draws=400).low for rows in zip(right, longer, pairs, strict=True)]
    assert np.mean(np.array(low) > 0) > ALPHA + 0.01


def card(**changes: Any) -> dict[str, Any]:
    found = {"value": 0.2, "low": 0.1, "high": 0.3, "p": 0.001, "prompts": MIN_PROMPTS, "constant": False} | changes
    return {"above_length": found, "accuracy": {"value": 0.7}, "length_baseline": 0.5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"prompts": MIN_PROMPTS - 1}, "too few to tell: 9 held-out prompts"),
        ({"constant": True}, "the same score"),
        ({"value": 0.0}, "no better than length: accuracy 0.70, length alone 0.50"),
        ({"low": 0.0}, "may be no better than length"),
        ({"p": ALPHA + 1e-6}, "may be no better than length"),
        ({"value": float("nan"), "low": float("nan"), "p": 1.0}, "may be no better than length"),
        ({"low": float("nan")}, "may be no better than length"),
        ({"p": float("nan")}, "may be no better than length"),
    ],
)
def test_reasons(changes: dict[str, Any], words: str) -> None:
    said = gate(card(**changes))
    assert (said is None) if not words else words in str(said)


def test_length_predicts_by_its_better_direction() -> None:
    right, longer, pairs = np.array([2.0, 2.0]), np.array([0.0, 1.0]), np.array([2.0, 3.0])
    assert advantage(right, longer, pairs).tolist() == [0.0, 0.0]  # shorter answers win: 2 of 2 and 2 of 3
    found = above_length(right, longer, pairs)
    assert found.value == 0.0 and found.p == 1.0
