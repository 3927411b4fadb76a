from __future__ import annotations

from typing import Any

import pytest

from chatwright.evals.report_words import judge_notes, judge_text, score_name
from chatwright.pipeline.judging import recommend


def rate(low: float, high: float) -> dict[str, Any]:
    return {"rate": (low + high) / 2, "low": low, "high": high, "n": 40, "questions": 10}


def evaluation(ppo: dict[str, Any], sft: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"judge": "runs/x/4-judge", "judge_kind": "held_out", "win_rates": {"ppo_vs_sft": ppo, "sft_vs_base": sft}} | more


GOOD = rate(0.8, 0.95)


@pytest.mark.parametrize(
    ("ppo", "sft", "name", "words"),
    [
        (rate(0.55, 0.8), GOOD, "ppo", "PPO is preferred to SFT in 0.675 [0.550, 0.800] (judge: a second reward model)"),
        (rate(0.25, 0.417), GOOD, "sft", "PPO is worse than SFT: 0.334"),
        (rate(0.365, 0.698), GOOD, "sft", "PPO is not surely better than SFT"),
        (rate(0.4, 0.6), rate(0.1, 0.4), "base", "the base model is preferred"),
    ],
)
def test_the_best_by_the_interval_is_recommended(ppo: dict[str, Any], sft: dict[str, Any], name: str, words: str) -> None:
    """A newcomer's run had PPO at 0.333 [0.250, 0.417] against SFT, by its own reward, and was told to chat with PPO."""
    found = recommend(evaluation(ppo, sft))
    assert found[0] == name and words in found[1]


def test_the_training_reward_is_called_an_upper_bound() -> None:
    name, reason = recommend(evaluation(rate(0.6, 0.8), GOOD, judge_kind="learned"))
    assert name == "ppo" and "its own training reward" in reason and "upper bound" in reason
    ai = {"judge": "ai:m", "judge_kind": "ai", "replies": 60, "unreadable": 2}
    assert "upper bound" not in recommend(evaluation(rate(0.6, 0.8), GOOD, judge_kind="learned", preference_judge=ai))[1]
    english, chinese = judge_text("runs/x", "learned")
    assert "upper bound" in english and "上限" in chinese


def test_judges_are_named_and_only_a_rubric_is_called_one() -> None:
    for kind in ("held_out", "learned"):
        assert "rubric" not in score_name({"judge_kind": kind})[0] and "rubric" not in judge_text("x", kind)[0]
    assert score_name({"judge_kind": "simulated"})[0] == "rubric" and score_name({})[0] == "score"
    ai = {"judge": "ai:m", "judge_kind": "ai", "replies": 60, "unreadable": 2}
    said = " ".join(text for text, _ in judge_notes({"judge": "x", "judge_kind": "learned", "preference_judge": ai}))
    assert said.startswith("Judge: the AI judge m.") and "2 of the judge's 60 replies were unreadable" in said
    weak = judge_notes({"judge": "x", "judge_kind": "held_out", "judge_gate": "too few to tell: 3."})
    assert "own report card is not good enough (too few to tell: 3)" in weak[1][0]
