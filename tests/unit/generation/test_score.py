"""Log-probabilities of given tokens, hidden states, and logits changed before a draw."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from chatwright.errors import ConfigError, DataError
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import LM
from chatwright.generation.local import LocalGenerator
from chatwright.generation.sampling import adjusted_logits
from chatwright.generation.score import hidden_parts, score_continuations, score_parts, score_tokens
from tiny_models import tiny_model


@pytest.fixture
def lm(tokenizer: Any) -> LM:
    return LM(tiny_model("llama", tokenizer.vocab_size, max_positions=640), tokenizer)


def test_scores_are_those_of_the_logits(lm: LM) -> None:
    ids = [5 + n % 80 for n in range(600)]
    wanted = torch.log_softmax(lm.logits(ids), -1)
    scores = score_tokens(lm.model, ids, top=3)
    assert scores[0] is None and len(scores) == len(ids)
    for place, row in enumerate(scores[1:], start=1):
        assert row is not None and row[0] == pytest.approx(float(wanted[place - 1, ids[place]]), abs=1e-5)
        assert [i for i, _ in row[1]] == wanted[place - 1].topk(3).indices.tolist()
        assert dict(row[1]).get(ids[place], row[0]) == row[0], "bit for bit"
    for bad in ([], [0] * 641, [10**6]):
        with pytest.raises(DataError):
            score_tokens(lm.model, bad)


def test_long_texts_in_parts_give_the_same(lm: LM) -> None:
    ids = [5 + n * 7 % 80 for n in range(600)]
    whole = torch.cat(list(hidden_parts(lm.model, ids, part=1000)))
    for part in (1, 7, 256, 599):
        parts = list(hidden_parts(lm.model, ids if part > 1 else ids[:40], part))
        assert {len(one) for one in parts[:-1]} == {part}
        assert torch.allclose(torch.cat(parts), whole[: 600 if part > 1 else 40], atol=1e-5)
    scores = list(score_parts(lm.model, ids, part=256))
    assert [len(rows) for rows in scores] == [257, 256, 87] and scores[0][0] is None
    flat = [row[0] for rows in scores for row in rows if row is not None]
    assert flat == pytest.approx([row[0] for rows in score_parts(lm.model, ids, part=600) for row in rows if row], abs=1e-4)


def test_biases_and_penalties() -> None:
    logits = torch.zeros(6)
    params = SamplingParams(logit_bias=((1, 2.5), (99, 1.0)), presence_penalty=0.5, frequency_penalty=0.25, ignore_eos=True)
    out = adjusted_logits(
        logits, params, Counter({2: 3, 1: 1}), frozenset({5}), torch.tensor([True] * 3 + [False] + [True] * 2)
    )
    assert out.tolist() == [0.0, 2.5 - 0.75, -(0.5 + 0.75), -float("inf"), 0.0, -float("inf")]
    assert logits.tolist() == [0.0] * 6, "the caller's logits stay"


def test_adjusted_draws_report_the_models_own_probabilities(lm: LM, tokenizer: Any) -> None:
    generator = LocalGenerator(lm.model, tokenizer)
    forced = SamplingParams(max_new_tokens=4, temperature=0.0, logit_bias=((9, 100.0),), top_logprobs=5)
    ((answer,),) = generator.generate([[5, 6]], forced)
    assert answer.ids == (9, 9, 9, 9)
    scores = score_tokens(lm.model, [5, 6, *answer.ids], top=5)[2:]
    for logprob, top, row in zip(answer.logprobs, answer.top_logprobs, scores, strict=True):
        assert row is not None and logprob == pytest.approx(row[0], abs=1e-4) and len(top) == 5
        assert [i for i, _ in top] == [i for i, _ in row[1]]
    ((plain,),) = generator.generate(
        [[5, 6]], SamplingParams(max_new_tokens=20, temperature=0.0, top_logprobs=2, stop_ids=frozenset())
    )
    for token, logprob, top in zip(plain.ids, plain.logprobs, plain.top_logprobs, strict=True):
        assert top[0] == (token, logprob), "bit for bit"
    penalised = SamplingParams(
        max_new_tokens=20, temperature=0.0, presence_penalty=2.0, frequency_penalty=2.0, stop_ids=frozenset()
    )
    ((varied,),) = generator.generate([[5, 6]], penalised)
    assert len(set(varied.ids)) >= len(set(plain.ids))


def test_ignored_stop_tokens_are_never_drawn(lm: LM, tokenizer: Any) -> None:
    with torch.no_grad():
        lm.model.embed.weight[tokenizer.end_of_turn_id] *= 50
    generator = LocalGenerator(lm.model, tokenizer)
    ((usual,),) = generator.generate([[5]], SamplingParams(max_new_tokens=30, temperature=5.0))
    ((longer,),) = generator.generate([[5]], SamplingParams(max_new_tokens=30, temperature=5.0, ignore_eos=True))
    assert usual.finish_reason == "stop" and longer.finish_reason == "length" and len(longer.ids) == 30
    assert not set(longer.ids) & tokenizer.stop_ids


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"top_logprobs": 21}, "top_logprobs 21"),
        ({"presence_penalty": 3.0}, "presence_penalty 3.0"),
        ({"frequency_penalty": -2.5}, "frequency_penalty -2.5"),
        ({"logit_bias": ((5, 101.0),)}, "logit_bias of token 5"),
    ],
)
def test_settings_out_of_range(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplingParams(**fields)


@pytest.mark.parametrize("shared", [0, 40])
def test_continuations_are_scored_as_whole_texts_are(lm: LM, shared: int) -> None:
    """Ragged pairs in small batches, with and without a common beginning, against the logits of each text alone."""
    head = [7 + n % 50 for n in range(shared)]
    pairs = [([*head, 3 + n, *range(5, 5 + n)], [9 + n, 11, *range(20, 20 + 3 * n)]) for n in range(7)]
    greedy = int(lm.logits(pairs[0][0])[-1].argmax())
    pairs.append((pairs[0][0], [greedy]))
    found = score_continuations(lm.model, pairs, batch_tokens=90)
    for (context, continuation), (value, is_greedy) in zip(pairs, found, strict=True):
        logprob_TV = torch.log_softmax(lm.logits([*context, *continuation]), -1)
        rows = range(len(context) - 1, len(context) + len(continuation) - 1)
        wanted = sum(float(logprob_TV[row, token]) for row, token in zip(rows, continuation, strict=True))
        likeliest = all(int(logprob_TV[row].argmax()) == token for row, token in zip(rows, continuation, strict=True))
        assert value == pytest.approx(wanted, abs=1e-4) and is_greedy == likeliest
    assert found[-1][1] and score_continuations(lm.model, []) == []
    for bad in (([], [1]), ([1], []), ([1] * 640, [1]), ([1], [10**6])):
        with pytest.raises(DataError):
            score_continuations(lm.model, [bad])
