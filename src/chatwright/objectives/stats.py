"""Masked statistics, written once so that "whiten" means one thing everywhere.

Shapes: any; the mask has the shape of the values, True where a value counts.
"""

from __future__ import annotations

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the True positions; 0 when there are none (never NaN)."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_var(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Population variance over the True positions; 0 when there are none."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: torch.Tensor, mask: torch.Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> torch.Tensor:
    """Scale to unit population variance over the mask, and to mean 0 unless `shift_mean` is False.

    Positions outside the mask come back as 0. Settings as in N+ (arXiv 2403.17031): masked, global, eps 1e-8.
    """
    mean, var = masked_mean(values, mask), masked_var(values, mask)
    scaled = (values - mean) * torch.rsqrt(var + eps)
    return torch.where(mask, scaled if shift_mean else scaled + mean, torch.zeros_like(values))
