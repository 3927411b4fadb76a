"""The lower bound of a text's tokens never exceeds their number, and shows texts that are far too long."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from chatwright.text.token_bound import TokenBound
from chatwright.text.tokenizer import Tokenizer
from conftest import byte_level_json, sentencepiece_json

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def tokenizers() -> list[Tokenizer]:
    return [
        Tokenizer(byte_level_json(SPECIAL, merges=600), {"eos_token": "<|im_end|>"}),
        Tokenizer(sentencepiece_json(["<unk>", "<s>", "</s>"]), {"eos_token": "</s>", "bos_token": "<s>"}),
    ]


@pytest.mark.parametrize("tokenizer", tokenizers(), ids=["byte level", "sentencepiece"])
def test_it_never_exceeds_the_number_of_tokens(tokenizer: Tokenizer) -> None:
    rng = random.Random(0)
    pieces = [tokenizer.decode([n]) for n in range(tokenizer.vocab_size)]
    longest = max(pieces, key=len)
    texts = [longest * 500, " " * 3000, "\n" * 3000, "e\u0301" * 2000, "春眠不觉晓" * 500, "ab" * 3000]
    texts += ["🍎" * 900, "=-" * 900]
    texts += ["".join(rng.choices(pieces, k=800)) for _ in range(20)]
    bound = TokenBound(tokenizer)
    for text in texts:
        assert bound.least(text) <= len(tokenizer.encode(text)), text[:40]
    assert bound.least("museum " * 20_000) > 1000 and bound.least("=" * 100_000) > 1000


def test_there_is_no_bound_where_characters_may_be_dropped(tokenizer: Any) -> None:
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    stripping = json.dumps(json.loads(tokenizer.json) | {"normalizer": strip})
    assert TokenBound(Tokenizer(stripping, tokenizer.config)).least("a" * 1_000_000) == 0
    assert TokenBound(tokenizer).least("a" * 1_000_000) > 0


def test_long_texts_get_the_tokens_of_short_ones(tokenizer: Any) -> None:
    """They go through another call of the library."""
    text = "The museum opens at nine. 春眠不觉晓 <|im_start|> " * 200
    assert tokenizer.encode(text) == tokenizer.encode_many([text])[0] and tokenizer.decode(tokenizer.encode(text)) == text
