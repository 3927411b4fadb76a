"""The calculator step: what it finds, what it leaves alone, and that the answer holds the result."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chatwright.generation.api import SamplingParams
from chatwright.generation.calculator_steps import Step, calculator_step, calculator_steps, steps_constraint, with_steps
from chatwright.generation.local import LocalGenerator
from chatwright.records import Message
from tiny_models import tiny_model


def steps(text: str) -> tuple[Step, ...]:
    return calculator_steps((Message(role="user", content=text),))


@pytest.mark.parametrize(
    "question",
    [
        "3457 * 43216",
        "3457 × 43216",
        "What is 3457 * 43216?",
        "what's 3,457 times 43,216",
        "3457 x 43216 = ?",
        "Please calculate 3457*43216.",
        "3457 乘以 43216 等于多少?",
        "３４５７×４３２１６＝？",
        "帮我算一下3457*43216",
        "请问3457乘43216是多少？",
    ],
)
def test_a_bare_question_is_answered_by_its_result_alone(question: str) -> None:
    (step,) = steps(question)
    assert (step.expression, step.result, step.exact, step.alone) == ("3457 × 43216", "149397712", True, True)
    assert step.to_dict() == {"tool": "calculator", "expression": "3457 × 43216", "exact": True, "result": "149397712"}


@pytest.mark.parametrize(
    ("question", "sentences"),
    [
        ("Tom has 12 boxes with 24 apples each. How many apples, 12*24?", ["12 × 24 = 288."]),
        ("What is 3457 * 43216? Explain briefly.", ["3457 × 43216 = 149397712."]),
        ("Calculate 12*3 and 4*5.", ["12 × 3 = 36.", "4 × 5 = 20."]),
        ("小明有12个苹果，又买了30个，12加30等于多少？", ["12 + 30 = 42。"]),
    ],
)
def test_arithmetic_inside_a_longer_question_is_not_all_of_the_answer(question: str, sentences: list[str]) -> None:
    found = steps(question)
    assert [step.sentence for step in found] == sentences
    assert not any(step.alone for step in found)


@pytest.mark.parametrize(
    "text",
    [
        "My number is 555-1234, call me",
        "What is 2024-11-26?",
        "Is it open 24/7?",
        "What happened on 9/11?",
        "Was the score 3-1?",
        "It takes 10-20 minutes",
        "What is a 4x4 truck?",
        "What is a 2*3 matrix?",
        "iPhone 15 vs 14, which is better?",
        "covid-19 - 2020",
        "write f(x) = 2 * x + 1",
        "Explain why 2+2=4",
        "what is x12*3?",
        "What is 7?",
        "what is 5%?",
        "三加五等于多少",
        "",
    ],
)
def test_what_asks_for_no_result_is_left_alone(text: str) -> None:
    assert steps(text) == ()


def test_only_the_last_message_of_a_user_counts() -> None:
    question, answer = Message(role="user", content="1 + 1"), Message(role="assistant", content="2 + 2")
    assert calculator_step((question, answer)) is None and calculator_step(()) is None
    assert calculator_step((answer, question)) is not None


def test_errors_are_said_in_the_language_of_the_question() -> None:
    assert steps("1/0")[0].sentence == "1 / 0 has no result here: division by zero."
    assert steps("1除以0等于多少")[0].sentence == "1 / 0：除数不能为零。"
    shown = steps("1/0")[0].to_dict()
    assert shown == {"tool": "calculator", "expression": "1 / 0", "exact": True, "error": "division by zero"}


def test_the_model_reads_the_result_behind_the_question() -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="What is 6 * 7?"))
    told = with_steps(messages, calculator_steps(messages))
    assert told[0] == messages[0] and told[1].content.startswith("What is 6 * 7?\n\n(") and "6 × 7 = 42." in told[1].content
    assert with_steps(messages, ()) == messages and steps_constraint(()) is None


@pytest.mark.parametrize("question", ["What is 3457 * 43216?", "3457 乘以 43216 等于多少?", "What is 3457 * 43216 and why?"])
def test_any_model_answers_with_the_result(tokenizer: Any, question: str) -> None:
    """A model of random weights does; so nothing depends on what a model can do."""
    found = steps(question)
    generator = LocalGenerator(tiny_model("llama", tokenizer.vocab_size, max_positions=512), tokenizer)
    params = SamplingParams(max_new_tokens=100, temperature=1.5, n=4, constraint=steps_constraint(found))
    for answer in generator.generate([[5, 6, 7]], params)[0]:
        assert answer.text.startswith(found[0].sentence)
        assert not found[0].alone or (answer.text == found[0].sentence and answer.finish_reason == "stop")


@pytest.mark.parametrize("piece", ["(", "1 ", "1+", "1*1 ", "1,111", "的", "sqrt", "1+(", "what is "])
def test_long_texts_take_no_long_time(piece: str) -> None:
    started = time.monotonic()
    assert len(steps(piece * (40_000 // len(piece)))) <= 4
    assert time.monotonic() - started < 50


def test_steps_are_json() -> None:
    assert json.loads(json.dumps(steps("1/3")[0].to_dict())) == {
        "tool": "calculator", "expression": "1 / 3", "exact": False, "result": "0.333333333333",
    }  # fmt: skip
