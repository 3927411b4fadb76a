"""Few different shapes whatever the prompts' lengths, and nobody's answer changes by the padding."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatwright.generation.api import SamplingParams
from chatwright.generation.batch import Batch
from chatwright.generation.decoder import Decoder
from chatwright.generation.local import LocalGenerator
from chatwright.generation.prefix_cache import PrefixCache
from chatwright.generation.shapes import KEPT_PRIMITIVES, SPAN_BLOCK, groups, padded, span_of
from tiny_models import tiny_model

GREEDY = SamplingParams(max_new_tokens=3, temperature=0, stop_ids=frozenset())


@given(st.integers(0, 40_000))
def test_spans_hold_their_positions_and_little_more(length: int) -> None:
    span = span_of(length)
    assert length <= span and span % SPAN_BLOCK == 0
    assert span < length + SPAN_BLOCK or span <= length * 1.125
    assert span_of(span) == span and span_of(length + 1) >= span


def test_there_are_few_spans() -> None:
    assert len({span_of(length) for length in range(8193)}) == 8 + 8 * 5 + 1


@given(st.integers(0, 256))
def test_padding_is_small(num_tokens: int) -> None:
    assert num_tokens <= padded(num_tokens) < num_tokens + (16 if num_tokens <= 128 else 32)


@given(st.integers(0, 300), st.integers(0, 64))
def test_groups_add_up(count: int, most: int) -> None:
    sizes = list(groups(count, most))
    assert sum(sizes) == count and all(size & (size - 1) == 0 and size <= max(most, 1) for size in sizes)


def test_prompts_of_every_length_take_few_shapes(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server's memory grows by is the number of different products, 0.5 MB each."""
    model = tiny_model("llama", tokenizer.vocab_size, max_positions=1024)
    seen: set[tuple[int, int]] = set()
    prefill = Decoder.prefill

    def counted(self: Decoder, tokens_BT: torch.Tensor, *args: Any, **settings: Any) -> None:
        seen.add((tokens_BT.shape[0], tokens_BT.shape[1]))
        prefill(self, tokens_BT, *args, **settings)

    monkeypatch.setattr(Decoder, "prefill", counted)
    generator = LocalGenerator(model, tokenizer)
    batch = generator.new_batch(16, PrefixCache(0), cache_bytes=2**30)
    lengths = range(2, 260, 3)
    for length in lengths:
        count = 1 + length % 16
        batch.admit([generator.prepare([5 + n] * length, GREEDY)[0] for n in range(count)])
        while batch.answers:
            batch.step()
    columns = {padded(length) for length in lengths}
    assert len({rows * tokens for rows, tokens in seen}) <= 40 and {tokens for _, tokens in seen} <= columns
    assert {rows for rows, _ in seen} <= {1, 2, 4, 8, 16}


def test_padding_beyond_the_context_changes_nothing(tokenizer: Any) -> None:
    """A known beginning leaves a few tokens at the very end of the context, which are padded past it."""
    model = tiny_model("llama", tokenizer.vocab_size, max_positions=64)
    generator, prefixes = LocalGenerator(model, tokenizer), PrefixCache(2**20)
    prompt = [5 + n % 40 for n in range(61)]
    answers = []
    for ids in (prompt[:52], prompt, prompt):
        batch = Batch(generator._ready_decoder(), 2, prefixes)
        (answer,) = generator.prepare(ids, GREEDY)
        batch.admit([answer])
        while batch.answers:
            batch.step()
        answers.append(answer)
    assert [answer.cached for answer in answers] == [0, 52, 60]
    wanted = LocalGenerator(model, tokenizer).generate([prompt], GREEDY)[0][0].ids
    assert tuple(answers[1].ids) == tuple(answers[2].ids) == wanted


def test_a_server_bounds_what_one_dnn_keeps() -> None:
    code = "import os; from chatwright.generation.shapes import bound_primitives as b; b(); print(os.environ[NAME])"
    code = code.replace("NAME", "'ONEDNN_PRIMITIVE_CACHE_CAPACITY'")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")}
    for given_env, wanted in (({}, KEPT_PRIMITIVES), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, 7)):
        run = subprocess.run([sys.executable, "-c", code], env=plain | given_env, capture_output=True, check=True)
        assert int(run.stdout) == wanted
