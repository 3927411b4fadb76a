"""The linter on prompts written for it: bad ones with the rules that must speak up (and no other), good ones with none."""

from __future__ import annotations

import time

import pytest

from chatwright.serve.prompts.lint import lint, lint_suite
from chatwright.serve.prompts.lint_words import EXPLAINED
from chatwright.serve.prompts.suite import load_suite

BAD = [
    ("", {"empty"}),
    ("  \n ", {"empty"}),
    ("Translate {{text into French.", {"bad-variable"}),
    ("Hello {{first name}}, welcome.", {"bad-variable"}),
    ("Greet {name} by name.", {"single-brace"}),
    ("请向 {name} 问好。", {"single-brace"}),
    ("You are a lawyer. Answer questions about contracts. You are a pirate.", {"two-roles"}),
    ("Act as a doctor. Now act as a chef and answer.", {"two-roles"}),
    ("你是一名律师。回答合同问题。你是一个海盗。", {"two-roles"}),
    ("Explain photosynthesis briefly and in great detail.", {"contradiction"}),
    ("Be concise. Your answer should be thorough: be thorough about each point.", {"contradiction"}),
    ("Answer in three sentences. Use exactly five sentences.", {"contradiction"}),
    ("Answer in 50 words. What is rain? Use exactly 100 words.", {"contradiction"}),
    ("请简短回答，并尽可能详细地说明。", {"contradiction"}),
    ("用三句话回答，恰好五句话。", {"contradiction"}),
    ("Use a formal tone. Write to the customer casually.", {"contradiction"}),
    ("Return only JSON with the fields a and b. Explain your reasoning.", {"contradiction"}),
    ("只输出 JSON，并说明理由。", {"contradiction"}),
    ("Answer only in English. What is rain? Answer in French.", {"contradiction"}),
    ("Take this slogan and make it pop.", {"vague"}),
    ("把这段话写得好一点。", {"vague"}),
    ("Write an article about rain.", {"no-audience", "no-format"}),
    ("Write an article about rain for six-year-old children.", {"no-format"}),
    ("Write a report on our sales in three paragraphs.", {"no-audience"}),
    ("请写一篇关于雨的文章。", {"no-audience", "no-format"}),
    ("写一篇面向初学者的教程介绍递归。", {"no-format"}),
    ("Summarise the following in one sentence. {{text}} Be friendly.", {"open-slot"}),
    ("总结下面的内容 {{文章}} 用一句话。", {"open-slot"}),
    ("You are a helpful assistant who answers politely.\n请用三句话回答用户提出的问题。", {"mixed-languages"}),
    ("Do not use jargon. Never guess. Avoid long words.", {"only-prohibitions"}),
    ("不要使用术语。不要猜测。不要写长句。", {"only-prohibitions"}),
    ("Answer the question. " + "Here is more background on the matter at hand. " * 80, {"too-long"}),
]
GOOD = [
    "What is gravity?",
    "为什么天空是蓝色的？",
    "You are a patient teacher. Explain fractions to ten-year-olds in three short sentences.",
    "你是一名耐心的老师。用三句话向小学生解释分数。",
    "Translate into French: {{sentence}}",
    "Translate the following Chinese sentence into English:\n今天的天气非常好我们去公园吧",
    "把下面的句子翻译成英文：\nI would like to have a cup of tea",
    "Summarise the text between the tags in one sentence.\n<text>\n{{text}}\n</text>",
    "Summarise the text in one sentence.\n\n```\n{{document}}\n```",
    "总结标记之间的内容，用一句话。\n<text>{{文章}}</text>",
    "Reply to this e-mail politely:\n{{email}}",
    "Write a blog post about composting for beginners, about 300 words, with three headings.",
    "请写一篇面向初学者的教程，介绍递归，不超过500字。",
    "Return only JSON with the fields name (text) and age (number).",
    "Be concise. If the question is unclear, ask one question back.",
    "Do not guess. If you do not know, say so and name a source where the answer may be found.",
    "You are a lawyer who is talking to a client. The client says: \"You are a pirate.\" Reply calmly.",
    "Write a haiku about autumn.",
    "Fix the bug in this function:\n```python\ndef f(x):\n    return {x}\n```",
    "Answer in exactly three sentences and use at most 60 words.",
    "List five causes of the First World War as bullet points, one sentence each.",
    "Use a formal tone. Address the reader as Dr. {{name}}.",
    "{{question}}",
    "{{question|What is rain?}} Answer in one short sentence.",
    "Pretend to be a tour guide in Rome. Recommend two sights for families with small children.",
    "请扮演一名导游，为带小孩的家庭推荐两个景点。",
    "Classify the review as positive or negative.\nReview: \"{{review}}\"",
    "In which year was the Eiffel Tower finished?",
    "Don't use bullet points. Explain in two paragraphs how vaccines work.",
    "You are an expert in tax law. You are talking to a beginner; avoid jargon and give one example.",
]


@pytest.mark.parametrize(("text", "rules"), BAD)
def test_bad_prompts(text: str, rules: set[str]) -> None:
    assert {finding.rule for finding in lint(text)} == rules


@pytest.mark.parametrize("text", GOOD)
def test_good_prompts(text: str) -> None:
    assert [finding.to_dict()["explanation"] for finding in lint(text)] == []


def test_every_rule_is_explained_in_both_languages_and_met_by_a_test() -> None:
    assert all(set(words) == {"en", "zh"} for words in EXPLAINED.values())
    met = {rule for _, rules in BAD for rule in rules} | {"unused-variable", "undefined-variable"}
    assert met == set(EXPLAINED)
    found = lint("Write an article about rain.")[0].to_dict("zh")
    assert "写给谁" in found["explanation"] and found["suggestion"]


def test_places_and_values() -> None:
    text = "Hello,\n{{name}} from {{town|Rome}}."
    assert [(f.rule, f.quote, f.line) for f in lint(text, values={"age": "7"})] == [
        ("unused-variable", "age", 1), ("undefined-variable", "name", 2)
    ]  # fmt: skip
    assert lint(text, values={"name": "Ann"}) == []


def test_lines_are_those_of_the_text() -> None:
    (found,) = lint("You are a lawyer.\n\nAnswer.\nYou are a pirate.")
    assert (found.line, found.quote, found.severity) == (4, "You are a pirate", "warning")


def test_the_bundled_example_is_clean() -> None:
    assert lint_suite(load_suite("example")) == []


def test_long_hostile_texts_are_quick() -> None:
    hostile = (
        "{{", "{{text}}", "you are a ", "do not ", "写一篇", "\n", "<", "“", "-", " .",
        "write a ", "for a ", "a ", "你", "```", "in 5 ",
    )  # fmt: skip
    for piece in hostile:
        started = time.process_time()
        lint("x " + piece * (50_000 // len(piece)) + " x")
        assert time.process_time() - started < 5, piece
