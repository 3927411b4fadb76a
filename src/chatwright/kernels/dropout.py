"""Dropout (Srivastava et al. 2014) for training in bf16 on the CPU: a mask of bits instead of a draw for every number.

torch draws one number of its generator for each element, on one core: a tenth of a training step. Here one draw of 64 bits
serves four elements, and the mask is applied to the bits of the numbers. A share is kept to 1 / 65,536.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_LARGEST = 0.999  # what 16 bits can still tell from 1


class Dropout(nn.Dropout):
    """nn.Dropout; the same distribution, other draws in bf16 on the CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return dropout(x, self.p, training=self.training)


def dropout(x: torch.Tensor, p: float, *, training: bool) -> torch.Tensor:
    """Each element 0 with probability `p`, else x / (1 - p). Draws come from torch's default generator."""
    if not training or p <= 0 or p > _LARGEST or x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return F.dropout(x, p, training)
    out: torch.Tensor = _Dropout.apply(x, p)
    return out


def _kept_bits(num: int, p: float) -> torch.Tensor:
    """[num] int16: all bits set with probability 1 - p, none otherwise."""
    drawn = torch.empty((num + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:num]
    return drawn.ge_(round(p * 65_536) - 32_768).neg_()


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, p: float) -> torch.Tensor:
        ctx.kept, ctx.p = _kept_bits(x.numel(), p), p
        return _masked(x, ctx.kept, p)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _masked(grads[0], ctx.kept, ctx.p), None


def _masked(x: torch.Tensor, kept: torch.Tensor, p: float) -> torch.Tensor:
    bits = x.contiguous().view(torch.int16)
    return (bits & kept.view(x.shape)).view(torch.bfloat16).mul_(1.0 / (1.0 - p))
