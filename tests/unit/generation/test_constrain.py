"""Constraints: what is sampled always fits, is whole UTF-8, and bad constraints are named."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from typing import Any

import pytest
import regex
import torch

from chatwright.errors import ConfigError
from chatwright.generation.api import Constraint, ConstraintKind, SamplingParams
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.generation.local import LocalGenerator
from tiny_models import tiny_model

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "n": {"type": "integer"}},
    "required": ["name", "n"],
    "additionalProperties": False,
}


@pytest.fixture
def generator(tokenizer: Any) -> LocalGenerator:
    return LocalGenerator(tiny_model("llama", tokenizer.vocab_size, max_positions=512), tokenizer, max_batch=16)


def sampled(generator: LocalGenerator, kind: ConstraintKind, value: str, n: int = 16, tokens: int = 60) -> list[Any]:
    params = SamplingParams(
        max_new_tokens=tokens, temperature=3.0, n=n, constraint=Constraint(kind=kind, value=value), seed=3
    )
    return generator.generate([[5, 6, 7]], params)[0]


@pytest.mark.parametrize("script", ["Han", "Latin", "Cyrillic", "Hangul", "Han|Latin"])
def test_scripts_hold_over_random_tokens(generator: LocalGenerator, script: str) -> None:
    """`regex`, with Unicode tables of its own, is the judge."""
    letters = "".join(rf"\p{{{name}}}" for name in script.split("|"))
    allowed = regex.compile(rf"[{letters}\p{{P}}\p{{S}}\p{{Inherited}}0-9 \n]*")
    answers = sampled(generator, "script", script, tokens=100)
    assert sum(len(answer.ids) for answer in answers) > 200
    for answer in answers:
        assert "\ufffd" not in answer.text and allowed.fullmatch(answer.text), (script, answer.text)
        if answer.finish_reason == "stop":
            assert regex.search(f"[{letters}]", answer.text), "at least one letter of the script"


def test_emoji_are_whole(generator: LocalGenerator) -> None:
    for answer in sampled(generator, "script", "emoji", tokens=100):
        text = answer.text
        assert "\ufffd" not in text and not text.endswith("\u200d")
        for cluster in re.split(r"[ \n]+", text):
            assert not re.search(r"[0-9#*](?!\uFE0F\u20E3)", cluster), "digits are emoji only as keycaps"
            flags = re.findall("[\U0001f1e6-\U0001f1ff]+", cluster)
            assert all(len(run) % 2 == 0 for run in flags), "half a flag"
            assert "\u200d\u200d" not in cluster and not cluster.startswith("\u200d")
            assert all(unicodedata.category(c)[0] in "SMCPN" for c in cluster), cluster


def test_json_that_ends_is_valid_and_cut_json_is_a_beginning(generator: LocalGenerator) -> None:
    ended = 0
    for answer in sampled(generator, "json_schema", json.dumps(SCHEMA), tokens=120):
        if answer.finish_reason == "stop":
            ended += 1
            value = json.loads(answer.text)
            assert set(value) == {"name", "n"} and isinstance(value["n"], int) and len(value["name"]) <= 4
        else:
            assert answer.text.startswith('{"name":') and "\ufffd" not in answer.text
    assert ended
    assert all(
        isinstance(json.loads(a.text), dict) for a in sampled(generator, "json_object", "") if a.finish_reason == "stop"
    )


def test_regex_and_choice(generator: LocalGenerator) -> None:
    for answer in sampled(generator, "regex", r"[0-9]{3}-[a-c]{2,4}"):
        assert answer.finish_reason == "stop" and re.fullmatch(r"[0-9]{3}-[a-c]{2,4}", answer.text)
    texts = {answer.text for answer in sampled(generator, "choice", '["yes", "no", "也许"]')}
    assert texts <= {"yes", "no", "也许"} and len(texts) > 1


def test_thousands_of_choices_can_be_followed(generator: LocalGenerator) -> None:
    texts = [f"text number {n}" for n in range(3000)] + ['a "quoted" one\n']
    for answer in sampled(generator, "choice", json.dumps(texts)):
        assert answer.finish_reason == "stop" and answer.text in texts


def test_masks_allow_a_stop_token_only_where_the_text_may_end(tokenizer: Any) -> None:
    matcher = ConstraintCompiler(tokenizer, tokenizer.vocab_size + 5).matcher(Constraint(kind="regex", value="ab?"))
    stops = torch.tensor(sorted(tokenizer.stop_ids))
    mask_V = matcher.mask()
    assert mask_V.shape == (tokenizer.vocab_size + 5,) and not mask_V[stops].any() and not mask_V[-5:].any()
    assert not matcher.complete and not matcher.done
    (a,) = tokenizer.encode("a")
    matcher.accept(a)
    assert matcher.mask()[stops].all() and matcher.complete and int(matcher.mask().sum()) == len(stops) + 1
    specials = torch.tensor(sorted(set(tokenizer.special_ids.values()) - tokenizer.stop_ids))
    assert not matcher.mask()[specials].any(), "control tokens are no text"


def test_neighbours_do_not_change_a_constrained_answer(generator: LocalGenerator) -> None:
    constrained = SamplingParams(max_new_tokens=20, constraint=Constraint(kind="script", value="Latin"))
    free = SamplingParams(max_new_tokens=20)
    alone = generator.generate([[9, 10]], constrained)[0][0]
    among = generator.generate([[5, 6], [9, 10], [7]], [free, constrained, free])
    assert among[1][0].ids == alone.ids
    assert among[0][0].ids == generator.generate([[5, 6]], free)[0][0].ids


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("script", "Klingon", "script 'Klingon': is none of emoji, Arabic"),
        ("regex", "(", "regex: cannot be followed"),
        ("regex", "", "regex: is empty"),
        ("json_schema", "{", "json_schema: is not JSON"),
        ("json_schema", "[" * 100 + "]" * 100, "json_schema: is nested more than 64 deep"),
        ("json_schema", '{"type": "nonsense"}', "json_schema: cannot be followed"),
        ("json_schema", '{"$defs": {"n": {"$ref": "#/$defs/n"}}, "$ref": "#/$defs/n"}', "json_schema: cannot be followed"),
        (
            "json_schema",
            json.dumps({"type": "object", "properties": {f"k{n}": {} for n in range(1500)}, "additionalProperties": False}),
            "json_schema: cannot be followed: Parser Error: Current row has",
        ),
        ("json_schema", "3", "json_schema: a schema is a JSON object"),
        ("choice", "[]", "choice: give a JSON list"),
        ("choice", '"yes"', "choice: give a JSON list"),
        ("lark", "start: nowhere", "lark: cannot be followed"),
        ("lark", "x" * 70_000, "lark: 70000 characters; at most 65536"),
    ],
)
def test_bad_constraints_are_named(tokenizer: Any, kind: Any, value: str, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match=re.escape(said)):
        ConstraintCompiler(tokenizer, tokenizer.vocab_size).matcher(Constraint(kind=kind, value=value))
    assert time.monotonic() - started < 30
