"""Looks are counted: a model that is no better is promoted in at most 5 % of cases, however often one looks or retrains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chatwright.evals.winrate import win_rate
from chatwright.feedback.promotion import ALPHA, FREE, alpha_of, may_decide, ordered, people_verdict, shortfall
from chatwright.statistics.sign_flips import sign_flip_p

LOOKS = range(20, 120, 10)


def verdict(kind: str, low: float = 0.6, p: float = 0.001, **more: Any) -> dict[str, Any]:
    rates = {"rate": low + 0.1, "low": low, "high": low + 0.2, "p": p, "n": 40, "questions": 40, "ties": 0.1}
    return {"judge": kind, "judge_kind": kind, **rates, **more}


def test_the_error_of_all_attempts_sums_to_five_per_cent() -> None:
    assert alpha_of(1) == 0.025
    assert sum(alpha_of(n) for n in range(1, 10_000)) < ALPHA


def promoted_by_votes(random: np.random.Generator, new_wins: float, ties: float, looks: range = LOOKS) -> bool:
    chances = [new_wins * (1 - ties), ties, (1 - new_wins) * (1 - ties)]
    votes = random.choice([1.0, 0.5, 0.0], p=chances, size=max(looks))
    return any(shortfall([people_verdict(votes[:n].tolist(), 1)], 1) == FREE for n in looks)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_ten_looks_at_the_votes_of_people(ties: float) -> None:
    """300 series of votes on models that are no better, read after 20, 30, ... 110 of them: at most 5 % (it was 6 to 11)."""
    random = np.random.default_rng(int(10 * ties))
    assert np.mean([promoted_by_votes(random, 0.5, ties) for _ in range(300)]) <= 0.05
    assert np.mean([promoted_by_votes(random, 0.75, ties) for _ in range(60)]) > 0.8


def outcomes(random: np.random.Generator, series: int, retrainings: int, better: float, samples: int = 4) -> Any:
    """Scores (new [S, N, Q, A], old [S, Q, A]): the old answers and the questions are the same in all retrainings."""
    questions = random.normal(size=(series, 30))
    old = questions[..., None] + random.normal(size=(series, 30, samples))
    own = questions[:, None, :] + 0.5 * random.normal(size=(series, retrainings, 30))  # some are answered better, some worse
    return own[..., None] + better + random.normal(size=(series, retrainings, 30, samples)), old


def promotions(new: Any, old: Any) -> float:
    """Share of series in which any retraining is promoted. The p-value comes first, since it is cheap to compute at once."""
    points = (new[..., :, None] > old[:, None, :, None, :]).mean(axis=(-1, -2)) - 0.5
    p = sign_flip_p(points)
    found = 0
    for series in range(len(new)):
        for n in np.flatnonzero(p[series] <= 2 * alpha_of(1)):
            rate = win_rate(new[series, n].tolist(), old[series].tolist(), draws=400).to_dict()
            if shortfall([{"judge": "a", "judge_kind": "ai", **rate}], int(n) + 1) == FREE:
                found += 1
                break
    return found / len(new)


def test_ten_retrainings_without_improvement() -> None:
    """400 series of ten retrainings, 30 questions, 4 answers, against the same old answers: at most 5 % (it was 28)."""
    random = np.random.default_rng(0)
    assert promotions(*outcomes(random, 400, 10, 0.0)) <= 0.05
    assert promotions(*outcomes(random, 60, 1, 0.8)) > 0.8


def test_the_training_reward_never_decides() -> None:
    lacking = shortfall([verdict("learned")], 1)
    assert lacking.code == "upper_bound" and "upper bound" in lacking.text
    assert shortfall([], 1).code == "never_compared"
    assert shortfall([verdict("learned"), verdict("held_out")], 1) == FREE
    assert shortfall([verdict("learned"), verdict("held_out", judge_gate="too few to tell")], 1).code == "upper_bound"


def test_order_of_judges() -> None:
    kinds = ("learned", "simulated", "held_out", "ai")
    found = [*map(verdict, kinds), people_verdict([1.0] * 20, 1)]
    assert [one["judge_kind"] for one in ordered(found)] == ["human", "ai", "held_out", "simulated", "learned"]
    few = people_verdict([1.0] * 19, 1)
    assert not may_decide(few) and ordered([few, verdict("simulated")])[0]["judge_kind"] == "simulated"


def test_later_attempts_need_more() -> None:
    assert shortfall([verdict("ai", p=0.01)], 1) == FREE
    lacking = shortfall([verdict("ai", p=0.01)], 3)
    assert lacking.code == "not_above" and "attempt 3" in lacking.text and "p = 0.0100" in lacking.text
    assert shortfall([verdict("ai", low=0.49)], 1).code == "not_above"
    old = {name: value for name, value in verdict("ai").items() if name != "p"}
    assert shortfall([old], 1).code == "not_above"  # of a version that did not compute it
    first, tenth = (people_verdict([1.0] * 14 + [0.0] * 6, n) for n in (1, 10))
    assert tenth["low"] < first["low"] < first["rate"] == tenth["rate"]
