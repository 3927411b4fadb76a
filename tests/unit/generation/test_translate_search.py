"""Best-first search against a full enumeration of all answers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from chatwright.errors import DataError, ModelError
from chatwright.generation import translate_search
from chatwright.generation.api import Constraint
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.generation.translate_search import Search, merged
from chatwright.text.bpe import train_bpe
from chatwright.text.pieces import token_bytes
from chatwright.text.tokenizer import Tokenizer
from tiny_models import tiny_model

WORDS = ["ab", "abc", "b", "bca", "c", "ca"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["ab abc bca ca"] * 4, 268)


Found = dict[tuple[int, ...], float]


def enumerated(model: Any, tokenizer: Tokenizer, prompt: list[int], compiler: ConstraintCompiler) -> Found:
    """Every sequence of tokens that spells one of WORDS, with the product of its probabilities within the constraint."""
    end, found = tokenizer.document_end_id, dict[tuple[int, ...], float]()

    def walk(ids: tuple[int, ...], logprob: float, matcher: Any) -> None:
        logits_V = model.logits(model(torch.tensor([[*prompt, *ids]]))[0, -1]).float()
        allowed_V = matcher.mask()
        allowed_V[sorted(tokenizer.stop_ids)] = False
        allowed_V[end] = matcher.complete
        logprobs_V = torch.log_softmax(logits_V.masked_fill(~allowed_V, -math.inf), 0)
        for token in allowed_V.nonzero()[:, 0].tolist():
            if token == end:
                found[ids] = logprob + float(logprobs_V[token])
                continue
            after = matcher.copy()
            after.accept(token)
            walk((*ids, token), logprob + float(logprobs_V[token]), after)

    with torch.inference_mode():
        walk((), 0.0, compiler.matcher(Constraint(kind="choice", value=json.dumps(WORDS))))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_answers_in_order_with_their_probabilities(tokenizer: Tokenizer, seed: int) -> None:
    model = tiny_model("qwen3", tokenizer.vocab_size, seed=seed).eval()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocab_size)
    prompt = tokenizer.encode("ca b")
    reference = enumerated(model, tokenizer, prompt, compiler)
    assert sum(map(math.exp, reference.values())) == pytest.approx(1, abs=1e-4)
    pieces = token_bytes(tokenizer)
    assert {b"".join(pieces[t] for t in ids).decode() for ids in reference} == set(WORDS) and len(reference) > len(WORDS)
    constraint = Constraint(kind="choice", value=json.dumps(WORDS))
    for num in (1, 3, len(reference) + 5):
        found = Search(model, tokenizer).best(prompt, compiler.matcher(constraint), num)
        best = sorted(reference.items(), key=lambda item: -item[1])[:num]
        assert [logprob for _, logprob in found] == pytest.approx([logprob for _, logprob in best], abs=1e-3)
        assert {ids for ids, _ in found} <= set(reference) and len(found) == min(num, len(reference))
        assert dict(found) == pytest.approx({ids: reference[ids] for ids, _ in found}, abs=1e-3)


def test_ends_are_told_from_other_control_tokens(tokenizer: Tokenizer) -> None:
    model = tiny_model("qwen3", tokenizer.vocab_size).eval()
    matcher = ConstraintCompiler(tokenizer, tokenizer.vocab_size).matcher(Constraint(kind="regex", value="[a-c]{2}"))
    found = Search(model, tokenizer).best([5], matcher, 4)
    assert all(len(tokenizer.decode(ids)) == 2 and not set(ids) & tokenizer.stop_ids for ids, _ in found)


def test_limits_are_told(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3", tokenizer.vocab_size, max_positions=16).eval()
    compiler = ConstraintCompiler(tokenizer, tokenizer.vocab_size)
    long = compiler.matcher(Constraint(kind="regex", value="[xyz]{12}"))
    with pytest.raises(DataError, match="the model takes 16"):
        Search(model, tokenizer).best([5] * 16, long, 1)
    with pytest.raises(ModelError, match="no answer ended within"):
        Search(model, tokenizer, max_nodes=9).best([5], long, 1)
    monkeypatch.setattr(translate_search, "MAX_TOKENS", 3)
    with pytest.raises(ModelError, match="no answer ended within"):
        Search(model, tokenizer).best([5], long, 1)


def test_spellings_of_one_text_are_added_up() -> None:
    found = merged([("a", math.log(0.3)), ("b", math.log(0.4)), ("a", math.log(0.2))])
    assert found == [("a", pytest.approx(0.5)), ("b", pytest.approx(0.4))]
