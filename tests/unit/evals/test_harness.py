from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from chatwright.errors import DataError
from chatwright.evals.harness import Answer, common_budget, evaluate, figures
from chatwright.records import Prompt, user

PROMPTS = [Prompt(messages=user(f"What is {name}?")) for name in ("rain", "snow", "wind")]


@dataclass(frozen=True)
class Verdict:
    total: float
    parts: dict[str, float] = field(default_factory=lambda: {"p": 1.0})


def generate(prompts: Sequence[Prompt], samples: int) -> list[list[Answer]]:
    return [
        [Answer(text=f"{prompt.messages[0].content} It is wet number {n}.", ended=n > 0) for n in range(samples)]
        for prompt in prompts
    ]


def judge(prompt: Prompt, answer: Answer) -> Verdict:
    return Verdict(1.0 if answer.ended else 0.2, {"p": float(answer.ended)})


def test_figures() -> None:
    found = evaluate(generate, PROMPTS, judge, samples=4)
    row = figures(found)
    assert row["gold_mean"] == pytest.approx(0.8)
    assert row["gold_low"] == row["gold_high"] == pytest.approx(0.8), "every question has the same mean"
    assert row["ended_share"] == 0.75
    assert row["words_mean"] == 8.0
    assert row["parts"] == {"p": 0.75}
    assert row["duplicate_questions"] == 0 and row["duplicate_share"] == 0.0
    assert 0 < row["distinct_2"] < 1
    assert row["fk_grade"] < 4
    assert found.gold() == [[0.2, 1.0, 1.0, 1.0]] * 3


def test_rows_hold_everything() -> None:
    rows = evaluate(generate, PROMPTS, judge, samples=2).rows()
    assert len(rows) == 6
    assert rows[1] == {
        "prompt_id": PROMPTS[0].id,
        "question": "What is rain?",
        "sample": 1,
        "answer": "What is rain? It is wet number 1.",
        "ended": True,
        "gold": 1.0,
        "parts": {"p": 1.0},
    }


def test_questions_answered_alike_are_counted() -> None:
    same = evaluate(
        lambda prompts, samples: [[Answer(text="Yes.", ended=True)] for _ in prompts], PROMPTS, judge, samples=1
    )
    assert figures(same)["duplicate_questions"] == 3
    assert figures(same)["duplicate_share"] == 1.0


def test_distinct_is_compared_at_the_common_budget() -> None:
    long = evaluate(lambda p, s: [[Answer(text="a b c d " * 20, ended=True)] for _ in p], PROMPTS[:1], judge, samples=1)
    short = evaluate(lambda p, s: [[Answer(text="a b c d", ended=True)] for _ in p], PROMPTS[:1], judge, samples=1)
    budget = common_budget([long, short])
    assert figures(long, budget=budget)["distinct_2"] == figures(short, budget=budget)["distinct_2"] == 1.0


def test_chinese_counts_characters_and_has_no_grade() -> None:
    found = evaluate(lambda p, s: [[Answer(text="你好呀。", ended=True)]], PROMPTS[:1], judge, samples=1, language="zh")
    assert figures(found)["words_mean"] == 3 and figures(found)["fk_grade"] is None


def test_a_generator_that_leaves_answers_out_is_an_error() -> None:
    with pytest.raises(DataError, match="4 answers"):
        evaluate(lambda prompts, samples: [[]], PROMPTS, judge)
    with pytest.raises(DataError, match="no held-out"):
        evaluate(generate, [], judge)
