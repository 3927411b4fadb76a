"""From logits to tokens. Pure: what a row draws depends on its logits, its settings and its random number alone.

One uniform number per row and token inverts the cumulative distribution in vocabulary order, in two levels (blocks of
the vocabulary, then inside one block), so that no [B, V] noise is drawn, and nothing is sorted unless top-k or top-p ask.

Shapes: B rows, V vocabulary, N blocks of the vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from chatwright.generation.api import SamplingParams, TopLogprobs

_BLOCK = 256
_NUCLEUS_TRY = 1024  # most nuclei are within this many tokens; rows where they are not are sorted whole


def uniforms(seed: int, prompt_ids: Sequence[int], sample: int, count: int) -> list[float]:
    """`count` numbers in [0, 1) for one answer: the SHAKE-128 stream of (seed, prompt, sample), 53 bits each.

    A longer stream starts with the same numbers.
    """
    key = f"{seed}/{sample}/{','.join(map(str, prompt_ids))}".encode()
    stream = hashlib.shake_128(key).digest(8 * count)
    return [(int.from_bytes(stream[at : at + 8], "little") >> 11) * 2.0**-53 for at in range(0, 8 * count, 8)]


@dataclass(frozen=True)
class RowSettings:
    """Sampling settings of the rows of a batch, as tensors where the computation needs them."""

    temperature_B: torch.Tensor
    """fp32; 0 is greedy."""
    greedy: bool
    """All rows are greedy."""
    some_greedy: bool
    """At least one is."""
    scaled: bool
    """Some temperature is neither 0 nor 1."""
    top_k: tuple[int, ...]
    """Empty when no row uses it."""
    top_p: tuple[float, ...]
    """Empty when no row uses it."""

    @classmethod
    def of(
        cls, temperatures: Sequence[float], top_k: Sequence[int], top_p: Sequence[float], device: torch.device | str = "cpu"
    ) -> RowSettings:
        """From one number per row."""
        drawn = [n for n, t in enumerate(temperatures) if t > 0]
        return cls(
            temperature_B=torch.tensor(list(temperatures), dtype=torch.float32, device=device),
            greedy=not drawn,
            some_greedy=len(drawn) < len(temperatures),
            scaled=any(temperatures[n] != 1 for n in drawn),
            top_k=tuple(top_k) if any(top_k[n] for n in drawn) else (),
            top_p=tuple(top_p) if any(top_p[n] < 1 for n in drawn) else (),
        )


class Workspace:
    """Memory that `sample` uses again in the next step: fresh pages for [B, V] numbers cost more than the arithmetic."""

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []
        self.probs_BV = torch.empty(0)
        """Distribution of the last `sample`, before limits and adjustments, absent ids at 0: valid until the next."""

    def pair(self, rows: int, columns: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Two fp32 tensors [rows, columns] with anything in them."""
        if not self._buffers or self._buffers[0].numel() < rows * columns or self._buffers[0].device != device:
            self._buffers = [torch.empty(rows * columns, device=device) for _ in range(2)]
        first, second = (buffer[: rows * columns].view(rows, columns) for buffer in self._buffers)
        return first, second


def sample(
    logits_BV: torch.Tensor,
    uniform_B: torch.Tensor,
    settings: RowSettings,
    workspace: Workspace | None = None,
    adjusted: Mapping[int, torch.Tensor] | None = None,
    absent_E: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row.

    Args:
        logits_BV: scores, any float dtype.
        uniform_B: numbers in [0, 1), fp64 (fp32 where the device has no fp64).
        workspace: memory to compute in; `workspace.probs_BV` then holds softmax(logits / temperature).
        adjusted: for some rows, the logits [V] in fp32 that the token is drawn by instead of the model's own.
        absent_E: ids that stand for no token and are never drawn. Log-probabilities count them, as training does.
    Returns:
        (tokens [B] int64, log-probabilities [B] fp32 in nats under softmax(logits / temperature), before top-k and
        top-p). Where logits are not finite the log-probability is NaN.
    """
    rows, vocab = logits_BV.shape
    columns = -(-vocab // _BLOCK) * _BLOCK
    workspace = workspace or Workspace()
    scores_BV, probs_BV = workspace.pair(rows, columns, logits_BV.device)
    scores_BV[:, :vocab] = logits_BV
    scores_BV[:, vocab:] = -math.inf  # whole blocks; the padding can never be drawn
    divisor_B = torch.where(settings.temperature_B > 0, settings.temperature_B, torch.ones_like(settings.temperature_B))
    if settings.scaled:
        scores_BV /= divisor_B[:, None]
    torch.softmax(scores_BV, dim=-1, out=probs_BV)
    if absent_E is not None:
        probs_BV.index_fill_(1, absent_E, 0.0)
        scores_BV.index_fill_(1, absent_E, -math.inf)
    workspace.probs_BV = probs_BV[:, :vocab]
    drawn_BV = probs_BV
    if adjusted:
        drawn_BV = probs_BV.clone()
        for row, logits_V in adjusted.items():
            scores_BV[row, :vocab] = logits_V / divisor_B[row]
            if absent_E is not None:
                scores_BV[row].index_fill_(0, absent_E, -math.inf)
            drawn_BV[row] = torch.softmax(scores_BV[row], dim=-1)
    if settings.greedy:
        tokens_B = greedy(scores_BV)
    else:
        weights_BV = _limited(drawn_BV, settings) if settings.top_k or settings.top_p else drawn_BV
        tokens_B = invert(weights_BV, uniform_B)
        if settings.some_greedy:
            tokens_B = torch.where(settings.temperature_B > 0, tokens_B, greedy(scores_BV))
    return tokens_B, probs_BV.gather(1, tokens_B[:, None])[:, 0].log()


def most_likely(probs_V: torch.Tensor, count: int) -> TopLogprobs:
    """The `count` likeliest tokens of a row of `Workspace.probs_BV` with their log-probabilities. That of a drawn token is
    the very number that `sample` gave."""
    top = probs_V.topk(min(count, probs_V.shape[0]))
    return tuple(zip(top.indices.tolist(), top.values.log().tolist(), strict=True))


def adjusted_logits(
    logits_V: torch.Tensor,
    params: SamplingParams,
    drawn: Counter[int],
    stop_ids: frozenset[int],
    mask_V: torch.Tensor | None,
) -> torch.Tensor:
    """The logits that a token is drawn by, [V] fp32: biases added, penalties taken off, what is forbidden at -inf.

    Args:
        drawn: how often each token stands in the answer so far.
        mask_V: bool, what a constraint allows next.
    """
    out_V = logits_V.float().clone()
    for token, bias in params.logit_bias:
        if 0 <= token < out_V.shape[0]:
            out_V[token] += bias
    if drawn and (params.presence_penalty or params.frequency_penalty):
        tokens = torch.tensor(list(drawn), device=out_V.device)
        counts = torch.tensor(list(drawn.values()), dtype=torch.float32, device=out_V.device)
        out_V[tokens] -= params.presence_penalty + params.frequency_penalty * counts
    if params.ignore_eos:
        out_V[torch.tensor(sorted(stop_ids), dtype=torch.long, device=out_V.device)] = -math.inf
    if mask_V is not None:
        out_V.masked_fill_(~mask_V, -math.inf)
    return out_V


def greedy(scores_BV: torch.Tensor) -> torch.Tensor:
    """Index of the largest score of each row (the first of equals), [B]. V is a multiple of the block size."""
    blocks_BN = scores_BV.unflatten(1, (-1, _BLOCK))
    block_B1 = blocks_BN.amax(-1).argmax(-1, keepdim=True)
    inside_B1 = _chunk(blocks_BN, block_B1).argmax(-1, keepdim=True)
    return (block_B1 * _BLOCK + inside_B1)[:, 0]


def _chunk(blocks_BNC: torch.Tensor, block_B1: torch.Tensor) -> torch.Tensor:
    """One block per row: [B, 256]."""
    return blocks_BNC.gather(1, block_B1[:, :, None].expand(-1, 1, _BLOCK))[:, 0]


def invert(weights_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """Invert each row's cumulative distribution at `uniform_B`: token ids [B].

    Weights need not add up to 1; a weight of 0 is never drawn. V is a multiple of the block size.
    """
    blocks_BNC = weights_BV.unflatten(1, (-1, _BLOCK))
    mass_BN = blocks_BNC.sum(-1).to(uniform_B.dtype)
    block_B1, fraction_B1 = _step(mass_BN, uniform_B[:, None])
    inside_B1, _ = _step(_chunk(blocks_BNC, block_B1).to(uniform_B.dtype), fraction_B1)
    return (block_B1 * _BLOCK + inside_B1)[:, 0]


def _step(mass_BN: torch.Tensor, uniform_B1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(index of the entry that `uniform` falls into, how far into it, in [0, 1)), [B, 1] each."""
    cumulative_BN = mass_BN.cumsum(-1)
    total_B1 = cumulative_BN[:, -1:]
    target_B1 = uniform_B1 * total_B1
    index_B1 = (cumulative_BN <= target_B1).sum(-1, keepdim=True)
    # Rounding can put the target at the very end: then the last entry that has any mass.
    index_B1 = torch.minimum(index_B1, (cumulative_BN < total_B1).sum(-1, keepdim=True)).clamp_(max=mass_BN.shape[1] - 1)
    mass_B1 = mass_BN.gather(1, index_B1)
    before_B1 = cumulative_BN.gather(1, index_B1) - mass_B1
    return index_B1, ((target_B1 - before_B1) / mass_B1).clamp_(0, 1 - torch.finfo(mass_BN.dtype).eps)


def _limited(probs_BV: torch.Tensor, settings: RowSettings) -> torch.Tensor:
    """Probabilities with everything outside top-k, and then outside top-p of what is left, set to 0."""
    floor_B1 = torch.zeros_like(probs_BV[:, :1])
    if settings.top_k:
        widest = min(max(settings.top_k), probs_BV.shape[1])
        top_BK = probs_BV.topk(widest).values
        last = [min(k, widest) - 1 if k else -1 for k in settings.top_k]
        index_B1 = torch.tensor(last, device=probs_BV.device)[:, None]
        floor_B1 = torch.where(index_B1 < 0, floor_B1, top_BK.gather(1, index_B1.clamp(min=0)))
        probs_BV = probs_BV.masked_fill(probs_BV < floor_B1, 0)
    if settings.top_p:
        floor_B1 = _nucleus_floor(probs_BV, settings.top_p)
        probs_BV = probs_BV.masked_fill(probs_BV < floor_B1, 0)
    return probs_BV


def _nucleus_floor(probs_BV: torch.Tensor, top_p: Sequence[float]) -> torch.Tensor:
    """Smallest probability inside each row's nucleus, [B, 1]; 0 for rows without a limit."""
    limit_B1 = torch.tensor(list(top_p), dtype=torch.float32, device=probs_BV.device)[:, None]
    wanted_B1 = limit_B1 * probs_BV.sum(-1, keepdim=True)
    top_BK = probs_BV.topk(min(_NUCLEUS_TRY, probs_BV.shape[1])).values
    floor_B1 = _smallest_kept(top_BK, wanted_B1)
    wide_B = (top_BK.sum(-1) < wanted_B1[:, 0]) & (limit_B1[:, 0] < 1)
    if bool(wide_B.any()):
        floor_B1[wide_B] = _smallest_kept(probs_BV[wide_B].sort(-1, descending=True).values, wanted_B1[wide_B])
    return torch.where(limit_B1 < 1, floor_B1, torch.zeros_like(floor_B1))


def _smallest_kept(sorted_BK: torch.Tensor, wanted_B1: torch.Tensor) -> torch.Tensor:
    """A token is kept while the mass before it is below what is wanted; the first always is."""
    before_BK = sorted_BK.cumsum(-1) - sorted_BK
    kept_B1 = (before_BK < wanted_B1).sum(-1, keepdim=True).clamp_(min=1)
    return sorted_BK.gather(1, kept_B1 - 1)
