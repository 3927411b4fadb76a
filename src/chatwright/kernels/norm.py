"""RMSNorm (arXiv 1910.07467) for training in bf16: reductions in fp32, everything else in one bf16 pass a step.

Eager autograd of the plain formula makes a dozen passes over fp32 copies and is a fifth of a training step on a CPU.
`plain_rms_norm` is the reference; a test holds the two equal. Shapes: ... any leading dimensions, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def plain_rms_norm(x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight."""
    return F.rms_norm(x, (x.shape[-1],), weight_D, eps)


def rms_norm(x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """The same; by few bf16 passes on the CPU, with or without a gradient, so that both compute the same numbers."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu":
        return plain_rms_norm(x, weight_D, eps)
    out: torch.Tensor = _RMSNorm.apply(x, weight_D, eps)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
        out, scale = torch.empty_like(x), _scale(x, eps)
        torch.mul(x, scale.to(x.dtype), out=out)
        ctx.save_for_backward(x, weight_D, scale)
        return out.mul_(weight_D)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight_D, scale = ctx.saved_tensors
        grad = grads[0]
        low = scale.to(x.dtype)
        normed = x * low
        grad_weight = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        # d x = s (g w - n mean(g w n)) with n = x s
        inner = grad * weight_D
        mean = torch.linalg.vecdot(inner, normed).unsqueeze(-1) / x.shape[-1]
        return inner.sub_(normed.mul_(mean)).mul_(low), grad_weight, None


def _scale(x: torch.Tensor, eps: float) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps), [..., 1] in fp32."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(eps))
