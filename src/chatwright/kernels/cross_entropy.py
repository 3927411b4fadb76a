"""Log-probabilities of given tokens, straight from hidden states: the [N, V] matrix never exists as a whole in fp32.

Shapes: N tokens, D width, V vocabulary. `plain_token_logprobs` is the reference; a test holds the two equal.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from chatwright.kernels.decode import one_dnn_linear

_CHUNK_ROWS = 1024  # rows of one matrix product
_ROW_BLOCK = 64  # rows come in whole blocks: every number of rows is a matrix product the CPU compiles a kernel for
_CACHED_ROWS = 64  # rows whose fp32 log-softmax stays in the cache
_KEEP_BYTES = 512 * 2**20  # logits up to this size are kept for the backward pass, larger ones are computed again


def plain_token_logprobs(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference: (log-probabilities [N], entropies [N]) in fp32, in nats."""
    logprobs_NV = F.log_softmax(F.linear(hidden_ND, weight_VD).float() / temperature, dim=-1)
    entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return logprobs_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


def token_logprobs(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    temperature: float = 1.0,
    *,
    with_entropy: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(log p(target) [N] fp32 in nats, entropy [N] fp32 without gradient, or None).

    Logits are divided by the sampling `temperature` first, as rollouts were drawn from that distribution.
    """
    num = hidden_ND.shape[0]
    if num % _ROW_BLOCK:
        hidden_ND = F.pad(hidden_ND, (0, 0, 0, -num % _ROW_BLOCK))
        targets_N = F.pad(targets_N, (0, -num % _ROW_BLOCK))
    logprobs_N, entropy_N = _TokenLogprobs.apply(hidden_ND, weight_VD, targets_N, temperature, with_entropy)
    return logprobs_N[:num], entropy_N[:num] if with_entropy else None


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        temperature: float,
        with_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        num, vocab = hidden_ND.shape[0], weight_VD.shape[0]
        keep = num * vocab * hidden_ND.element_size() <= _KEEP_BYTES
        keep = keep and any(ctx.needs_input_grad)
        kept: list[torch.Tensor] = []
        logprobs_N = torch.empty(num, dtype=torch.float32, device=hidden_ND.device)
        entropy_N = torch.empty_like(logprobs_N)
        for start in range(0, num, _CHUNK_ROWS):
            logits_NV = _logits(hidden_ND[start : start + _CHUNK_ROWS], weight_VD, temperature)
            if keep:
                kept.append(logits_NV)
            for first in range(0, logits_NV.shape[0], _CACHED_ROWS):
                part_NV = F.log_softmax(logits_NV[first : first + _CACHED_ROWS], dim=-1, dtype=torch.float32)
                rows = slice(start + first, start + first + part_NV.shape[0])
                logprobs_N[rows] = part_NV.gather(1, targets_N[rows, None])[:, 0]
                if with_entropy:
                    entropy_N[rows] = -torch.linalg.vecdot(part_NV.exp(), part_NV)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, *kept)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, targets_N, *kept = ctx.saved_tensors
        grad_N1 = (grads[0] / ctx.temperature).float()[:, None]
        grad_hidden_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        grad_weight_VD = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for index, start in enumerate(range(0, hidden_ND.shape[0], _CHUNK_ROWS)):
            rows = slice(start, start + _CHUNK_ROWS)
            logits_NV = kept[index] if kept else _logits(hidden_ND[rows], weight_VD, ctx.temperature)
            grad_logits_NV = _logits_gradient(logits_NV, targets_N[rows], grad_N1[rows])
            if grad_hidden_ND is not None:
                torch.mm(grad_logits_NV, weight_VD, out=grad_hidden_ND[rows])
            if grad_weight_VD is not None:
                grad_weight_VD.addmm_(grad_logits_NV.t(), hidden_ND[rows])
        return grad_hidden_ND, grad_weight_VD, None, None, None


def _logits_gradient(logits_NV: torch.Tensor, targets_N: torch.Tensor, grad_N1: torch.Tensor) -> torch.Tensor:
    """(onehot(target) - softmax) times the upstream gradient, in the logits' format. Block by block in fp32 and rounded
    last: for a confident token the difference of two rounded numbers would be noise, or 0."""
    grad_logits_NV = torch.empty_like(logits_NV)
    for first in range(0, logits_NV.shape[0], _CACHED_ROWS):
        block = slice(first, first + _CACHED_ROWS)
        part_NV = F.softmax(logits_NV[block], dim=-1, dtype=torch.float32).mul_(-grad_N1[block])
        part_NV.scatter_add_(1, targets_N[block, None], grad_N1[block])
        grad_logits_NV[block] = part_NV
    return grad_logits_NV


def _logits(hidden_ND: torch.Tensor, weight_VD: torch.Tensor, temperature: float) -> torch.Tensor:
    logits_NV = one_dnn_linear(hidden_ND, weight_VD)
    return logits_NV if temperature == 1.0 else logits_NV.div_(temperature)
