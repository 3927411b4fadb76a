"""Log-probabilities of a text's own tokens, and its hidden states: one forward pass, no sampling.

Shapes: B rows, N scored tokens of all rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import torch

from chatwright.errors import DataError
from chatwright.generation.api import TopLogprobs
from chatwright.model.kv_cache import KVCache
from chatwright.model.transformer import Transformer

PART = 256  # tokens in one piece of work: others wait for it
_ROWS = 256  # positions whose logits are in memory at a time
_LEAST_SHARED = 16  # a shorter common beginning is not worth a pass of its own
Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of its continuation, at least one each."""


def score_tokens(model: Transformer, ids: Sequence[int], top: int = 0) -> list[tuple[float, TopLogprobs] | None]:
    """Per token of `ids` its log-probability in nats given those before it and the `top` likeliest there; None for the
    first. The realised token's number among the likeliest is the very same number.

    Raises DataError when `ids` is empty or longer than the model's context.
    """
    return [row for rows in score_parts(model, ids, top) for row in rows]


@torch.inference_mode()
def score_parts(
    model: Transformer, ids: Sequence[int], top: int = 0, part: int = PART, absent: Sequence[int] = ()
) -> Iterator[list[tuple[float, TopLogprobs] | None]]:
    """The result of `score_tokens`; after each `part` tokens, the part known by then: a server works for others in between.

    `absent`: ids that stand for no token, which are no alternatives.
    """
    absent_E = torch.tensor(list(absent), dtype=torch.long, device=model.embed.weight.device)
    targets_T = torch.tensor(list(ids), device=model.embed.weight.device)
    done, first = 0, [None]
    for hidden_TD in hidden_parts(model, ids, part):
        out: list[tuple[float, TopLogprobs] | None] = [*first]
        first = []
        num = min(len(hidden_TD), len(ids) - 1 - done)  # nothing follows the last token
        for at in range(0, num, _ROWS):
            rows = slice(at, min(at + _ROWS, num))
            logprob_TV = torch.log_softmax(model.logits(hidden_TD[rows]).float(), dim=-1)
            own_T = logprob_TV.gather(1, targets_T[done + at + 1 : done + at + 1 + len(logprob_TV), None])[:, 0].tolist()
            best = logprob_TV.index_fill(1, absent_E, -math.inf).topk(top) if top else None
            for row, logprob in enumerate(own_T):
                likeliest = () if best is None else tuple(
                    zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)
                )  # fmt: skip
                out.append((logprob, likeliest))
        done += len(hidden_TD)
        yield out


@torch.inference_mode()
def score_continuations(model: Transformer, pairs: Sequence[Pair], *, batch_tokens: int = 4096) -> list[tuple[float, bool]]:
    """Per pair the sum of the continuation's log-probabilities in nats, and whether greedy decoding would write it.

    What all pairs begin with is computed once. The rest is computed in batches of at most `batch_tokens` padded tokens.
    Raises DataError when a context or a continuation is empty, or a pair is longer than the model's context.
    """
    for context, continuation in pairs:
        if not context or not continuation:
            raise DataError("a context and its continuation need at least one token each")
        _check(model, [*context, *continuation])
    shared = os.path.commonprefix([list(context[:-1]) for context, _ in pairs])
    if len(pairs) < 2 or len(shared) < _LEAST_SHARED:
        shared = []
    rests = [[*context, *continuation][len(shared) :] for context, continuation in pairs]
    out: list[tuple[float, bool]] = [(0.0, False)] * len(pairs)
    for rows in _equal_lengths(rests, batch_tokens):
        hidden_BTD = _padded_states(model, shared, [rests[row] for row in rows])
        own = [len(pairs[row][1]) for row in rows]
        ends = [len(rests[row]) - 1 for row in rows]
        spans = [hidden_BTD[b, end - n : end] for b, (end, n) in enumerate(zip(ends, own, strict=True))]
        logprob_N, greedy_N = _own_logprobs(model, torch.cat(spans), [t for row in rows for t in pairs[row][1]])
        scores = zip(logprob_N.split(own), greedy_N.split(own), strict=True)
        for row, (logprobs, greedy) in zip(rows, scores, strict=True):
            out[row] = (float(logprobs.sum()), bool(greedy.all()))
    return out


def _equal_lengths(texts: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of `texts` in groups of similar length, each at most `batch_tokens` when padded (at least one text)."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    while order:
        size = max(1, batch_tokens // len(texts[order[0]]))
        yield order[:size]
        order = order[size:]


def _padded_states(model: Transformer, shared: Sequence[int], texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """States [B, T, D] of right-padded texts that continue the tokens `shared`."""
    weight, width = model.embed.weight, max(map(len, texts))
    tokens_BT = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=weight.device)
    if not shared:
        return _evaluated(model, tokens_BT, None)
    cache = KVCache(model.config, 1, len(shared) + width, weight.dtype, weight.device)
    _evaluated(model, torch.tensor([list(shared)], device=weight.device), cache)
    cache.append(len(shared))
    return _evaluated(model, tokens_BT, cache.select(torch.zeros(len(texts), dtype=torch.long, device=weight.device)))


def _own_logprobs(model: Transformer, hidden_ND: torch.Tensor, targets: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Per state the log-probability of its target (float64 on the CPU) and whether the target is the likeliest token."""
    targets_N = torch.tensor(targets, device=hidden_ND.device)
    logprobs, greedy = [], []
    for at in range(0, len(targets_N), _ROWS):
        logprob_NV = torch.log_softmax(model.logits(hidden_ND[at : at + _ROWS]).float(), dim=-1)
        rows_N = targets_N[at : at + _ROWS]
        logprobs.append(logprob_NV.gather(1, rows_N[:, None])[:, 0].double().cpu())
        greedy.append((logprob_NV.argmax(dim=-1) == rows_N).cpu())
    return torch.cat(logprobs), torch.cat(greedy)


@torch.inference_mode()
def hidden_parts(
    model: Transformer, ids: Sequence[int], part: int = PART, *, both_sides: bool = False
) -> Iterator[torch.Tensor]:
    """States after the final norm, [t, D] with t <= `part` at a time; errors as `hidden_states`.

    `both_sides`: a token sees those after it too; then `ids` are at most `part`.
    """
    if len(ids) <= part:
        yield hidden_states(model, ids, both_sides=both_sides)
        return
    assert not both_sides, "states that depend on what follows cannot be made in parts"
    _check(model, ids)
    weight = model.embed.weight
    cache = KVCache(model.config, 1, len(ids), weight.dtype, weight.device)
    for at in range(0, len(ids), part):
        tokens_1T = torch.tensor([list(ids[at : at + part])], device=weight.device)
        states_TD = _evaluated(model, tokens_1T, cache)[0]
        cache.append(tokens_1T.shape[1])
        yield states_TD


def hidden_states(model: Transformer, ids: Sequence[int], *, both_sides: bool = False) -> torch.Tensor:
    """States after the final norm, [T, D]. DataError when `ids` is empty, too long, or not of the vocabulary."""
    _check(model, ids)
    tokens_1T = torch.tensor([list(ids)], device=model.embed.weight.device)
    mask_1TT = torch.ones(1, len(ids), len(ids), dtype=torch.bool, device=tokens_1T.device) if both_sides else None
    return _evaluated(model, tokens_1T, None, mask_1TT)[0]


def _check(model: Transformer, ids: Sequence[int]) -> None:
    context, vocab = model.config.max_positions, model.config.vocab_size
    if not 0 < len(ids) <= context:
        raise DataError(f"{len(ids)} tokens given; the model takes 1 to {context}")
    if min(ids) < 0 or max(ids) >= vocab:
        raise DataError(f"a token is outside the model's vocabulary, 0 to {vocab - 1}")


def _evaluated(
    model: Transformer, tokens_BT: torch.Tensor, cache: KVCache | None, mask_BTT: torch.Tensor | None = None
) -> torch.Tensor:
    """[B, T, D] without dropout, whatever mode the model is in."""
    training = model.training
    model.eval()
    try:
        out: torch.Tensor = model(tokens_BT, cache=cache, mask_BTS=mask_BTT)
        return out
    finally:
        model.train(training)
