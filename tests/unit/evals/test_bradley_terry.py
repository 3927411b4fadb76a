from __future__ import annotations

import choix
import numpy as np
import pytest
from scipy.optimize import minimize

from chatwright.evals.bradley_terry import Vote, board, rating_of
from chatwright.statistics.bradley_terry import fit

NAMES = ("ada", "bob", "cy", "dee", "eve")


def drawn(num: int, seed: int, *, ties: float = 0.0, length_effect: float = 0.0) -> list[Vote]:
    random = np.random.default_rng(seed)
    strengths = np.linspace(-1, 1, len(NAMES))
    votes = []
    for _ in range(num):
        i, j = random.choice(len(NAMES), 2, replace=False)
        length_a, length_b = random.integers(10, 1000, 2)
        effect = length_effect * (length_a - length_b) / (length_a + length_b)
        chance = 1 / (1 + np.exp(strengths[j] - strengths[i] - effect))
        outcome = 0.5 if random.random() < ties else float(random.random() < chance)
        votes.append(Vote(a=NAMES[i], b=NAMES[j], outcome=outcome, length_a=int(length_a), length_b=int(length_b)))
    return votes


def arrays(votes: list[Vote]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = {name: n for n, name in enumerate(NAMES)}
    a, b = (np.array([place[getattr(v, side)] for v in votes]) for side in "ab")
    return a, b, np.array([v.outcome for v in votes])


@pytest.mark.parametrize("seed", range(3))
def test_equals_choix_without_ties(seed: int) -> None:
    votes = drawn(300, seed)
    a, b, outcomes = arrays(votes)
    pairs = [(i, j) if won == 1 else (j, i) for i, j, won in zip(a, b, outcomes, strict=True)]
    expected = choix.opt_pairwise(len(NAMES), pairs, alpha=0.0, method="Newton-CG", tol=1e-12)
    assert fit(a, b, outcomes, len(NAMES)).values == pytest.approx(expected - expected.mean(), abs=1e-6)


def test_equals_the_published_procedure_of_the_arena_with_ties() -> None:
    """FastChat: every vote twice, a tie once for either side; logistic regression without intercept or penalty on +log 10
    and -log 10; 400 points to the coefficient, 1000 added. Written out here with scipy's optimiser."""
    votes = drawn(400, 3, ties=0.3)
    rows, wins, weights = [], [], []
    for vote in votes:
        row = np.zeros(len(NAMES))
        row[NAMES.index(vote.a)], row[NAMES.index(vote.b)] = np.log(10), -np.log(10)
        for outcome, weight in {1.0: [(1, 2)], 0.0: [(0, 2)], 0.5: [(1, 1), (0, 1)]}[vote.outcome]:
            rows.append(row), wins.append(outcome), weights.append(weight)
    design, won, weight = np.array(rows), np.array(wins), np.array(weights)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        margins = design @ coefficients
        chances = 1 / (1 + np.exp(-margins))
        return float(weight @ (np.logaddexp(0, margins) - won * margins)), design.T @ (weight * (chances - won))

    found = minimize(loss, np.zeros(len(NAMES)), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    expected = dict(zip(NAMES, 400 * (found - found.mean()) + 1000, strict=True))
    made = board(votes, draws=2)
    assert {s.name: s.rating for s in made.standings} == pytest.approx(expected, abs=1e-4)


def test_weights_are_repetitions() -> None:
    votes = drawn(60, 4, ties=0.2)
    a, b, outcomes = arrays(votes)
    times = np.random.default_rng(0).integers(1, 4, len(votes))
    repeated = fit(np.repeat(a, times), np.repeat(b, times), np.repeat(outcomes, times), len(NAMES))
    weighted = fit(a, b, outcomes, len(NAMES), weights=times.astype(float))
    assert weighted.values == pytest.approx(repeated.values, abs=1e-8)


def test_length_control_takes_out_what_length_explains() -> None:
    votes = drawn(4000, 5, length_effect=2.0)
    made = board(votes, length_control=True, draws=2)
    assert made.length_effect == pytest.approx(2.0, abs=0.25)
    strengths = {s.name: s.rating for s in made.standings}
    expected = rating_of(np.linspace(-1, 1, len(NAMES)))
    assert [strengths[name] for name in NAMES] == pytest.approx(list(expected), abs=35)


def test_equal_lengths_leave_the_board_as_it_is() -> None:
    votes = [Vote(a=v.a, b=v.b, outcome=v.outcome, length_a=5, length_b=5) for v in drawn(200, 7)]
    plain, controlled = board(votes, draws=2), board(votes, draws=2, length_control=True)
    assert [s.rating for s in controlled.standings] == pytest.approx([s.rating for s in plain.standings], abs=1e-6)
    assert controlled.length_effect == 0


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = dict(zip(NAMES, rating_of(np.linspace(-1, 1, len(NAMES))), strict=True))
    held = [
        standing.low <= truth[standing.name] <= standing.high
        for seed in range(24)
        for standing in board(drawn(250, 100 + seed), draws=100, seed=seed).standings
    ]
    assert 0.85 <= np.mean(held) <= 1.0


def test_who_wins_everything_gets_a_finite_rating_and_the_board_says_so() -> None:
    votes = [Vote(a="ada", b="bob", outcome=1.0), Vote(a="ada", b="cy", outcome=1.0), Vote(a="bob", b="cy", outcome=0.5)]
    made = board(votes)
    assert made.regularised and [s.name for s in made.standings] == ["ada", "bob", "cy"]
    assert all(np.isfinite([s.rating, s.low, s.high]).all() for s in made.standings)
    assert not board(drawn(200, 8), draws=2).regularised
    assert board([]).standings == ()
