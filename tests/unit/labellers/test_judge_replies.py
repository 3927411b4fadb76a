from __future__ import annotations

import time

import pytest

from chatwright.labellers.judge_replies import read_verdict, without_thinking

# @ stands for the letter.
FORMS = [
    "@",
    " @\n",
    "@.",
    "(@)",
    "[[@]]",
    "**@**",
    "`@`",
    "# @",
    "**Answer: @**",
    "Answer @",
    "Option @.",
    "@ is better",
    "\\boxed{@}",
    "Answer @ is better.",
    "The better answer is @.",
    "I choose @",
    "Verdict: @",
    "Final verdict: [[@]]",
    "$\\boxed{@}$",
    '"@"',
    '{"verdict": "@"}',
    '```json\n{"verdict": "@"}\n```',
    '{"reason": "A or B", "Verdict": "@"}',
    "答案：@",
    "回答@更好。",
    "选择@",
    "我选@",
    "结论：回答@更好",
    "**@** 更好",
    "@<|im_end|>",
    "</s>@",
    "<think>A is nice. B!</think> @",
    "B or A?</think>\n\n@",
    "[THINK]A B[/THINK]@",
    "◁think▷B, A◁/think▷@",
    "<reasoning>\nA\n</reasoning>\n@",
    "<|channel|>analysis<|message|>B A<|end|><|start|>assistant<|channel|>final<|message|>@<|return|>",
]
RELATIONS = {"A > B": "first", "[[A>>B]]": "first", "B<A": "first", "B > A": "second", "A < B": "second", "A = B": "tie"}
TIES = [
    "TIE",
    "Tie.",
    "**tie**",
    "A tie",
    "It's a tie.",
    "Verdict: TIE",
    "equal",
    "They are equally good",
    "平局",
    "平局。",
    "两者一样好",
    "结论：平手",
    '{"verdict": "TIE"}',
    "<think>A</think>TIE",
]
UNREADABLE = [
    "",
    "   ",
    "Answer B is better than answer A.",
    "I choose B, because A is wrong.",
    "A is better than B",
    "A, B",
    "A or B",
    "A/B",
    "AB",
    "A B",
    "A?",
    "Not A",
    "B is not better",
    "A is worse",
    "A is not better than B",
    "A更差",
    "B不如A",
    "我不选A",
    "C",
    "[[C]]",
    "Both",
    "Neither",
    "neither is better",
    "I cannot say",
    "I am sorry, but I cannot compare these.",
    "A user asks",
    "A good answer would be shorter",
    "A\n\nBecause B is wrong.",
    "Answer:",
    "1",
    "<think>Okay, A user",
    "<think>A",
    "[THINK]A",
    "<|channel|>analysis<|message|>A",
    '{"verdict": "A"',
    '{"verdict": "A", "verdict": "B"}',
    '{"verdict": "C"}',
    "不是平局",
    '{"verdict": 1}',
    '{"verdict": ["A"]}',
    '{"winner": "A"}',
    '{"A": 1}',
    "[1, 2]",
    "null",
    "A" * 500,
    "no tie",
    "tie or A",
    "\u0410",  # the Cyrillic letter
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("letter", "verdict"), [("A", "first"), ("B", "second"), ("a", "first"), ("Ｂ", "second")])
def test_replies_that_are_a_verdict(form: str, letter: str, verdict: str) -> None:
    assert read_verdict(form.replace("@", letter)) == verdict


@pytest.mark.parametrize(("reply", "verdict"), RELATIONS.items())
def test_relations(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize("reply", TIES)
def test_ties(reply: str) -> None:
    assert read_verdict(reply) == "tie"


@pytest.mark.parametrize("reply", UNREADABLE)
def test_anything_else_is_unreadable(reply: str) -> None:
    assert read_verdict(reply) is None


@pytest.mark.parametrize(
    "reply",
    [
        "<think>" * 20_000,
        "(" * 399 + "A",
        "answer " * 57,
        "<|" * 50_000,
        '{"a":' * 70,
        "[[" * 150 + "A" + "((" * 40,
        "{" * 10**5,
    ],
)
def test_hostile_replies_take_no_time(reply: str) -> None:
    start = time.process_time()
    read_verdict(reply)
    assert time.process_time() - start < 2.0


def test_thinking_is_removed_closed_or_not() -> None:
    assert without_thinking("<think>x</think>y") == "y" and without_thinking("x</think>y") == "y"
    assert without_thinking("y<think>x") == "y" and without_thinking("<THINK>x") == ""
