"""Log-probabilities of a text's own tokens, and its hidden states: one forward pass, no sampling.

Shapes: T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from chatwright.errors import DataError
from chatwright.generation.api import TopLogprobs
from chatwright.model.kv_cache import KVCache
from chatwright.model.transformer import Transformer

PART = 256  # tokens in one piece of work: others wait for it
_ROWS = 256  # positions whose logits are in memory at a time


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
    """What `score_tokens` returns, after each `part` tokens what is known by then: a server works for others in between.

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
        states_TD = _evaluated(model, tokens_1T, cache)
        cache.append(tokens_1T.shape[1])
        yield states_TD


def hidden_states(model: Transformer, ids: Sequence[int], *, both_sides: bool = False) -> torch.Tensor:
    """States after the final norm, [T, D]. DataError when `ids` is empty, too long, or not of the vocabulary."""
    _check(model, ids)
    tokens_1T = torch.tensor([list(ids)], device=model.embed.weight.device)
    mask_1TT = torch.ones(1, len(ids), len(ids), dtype=torch.bool, device=tokens_1T.device) if both_sides else None
    return _evaluated(model, tokens_1T, None, mask_1TT)


def _check(model: Transformer, ids: Sequence[int]) -> None:
    context, vocab = model.config.max_positions, model.config.vocab_size
    if not 0 < len(ids) <= context:
        raise DataError(f"{len(ids)} tokens given; the model takes 1 to {context}")
    if min(ids) < 0 or max(ids) >= vocab:
        raise DataError(f"a token is outside the model's vocabulary, 0 to {vocab - 1}")


def _evaluated(
    model: Transformer, tokens_1T: torch.Tensor, cache: KVCache | None, mask_1TT: torch.Tensor | None = None
) -> torch.Tensor:
    """[T, D] without dropout, whatever mode the model is in."""
    training = model.training
    model.eval()
    try:
        out: torch.Tensor = model(tokens_1T, cache=cache, mask_BTS=mask_1TT)[0]
        return out
    finally:
        model.train(training)
