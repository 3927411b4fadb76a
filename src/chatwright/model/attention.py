"""Scaled dot-product attention with grouped heads, rotary positions, and the masks they need.

Shapes: B rows, T queries, S keys, H query heads, K key/value heads, G = H / K, C features of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from chatwright.model.config import ModelConfig

# Below this many query-key products a plain matmul-softmax is faster on a CPU than the fused kernel, whose
# backward pass reaches a fifth of the matmul speed there (measured: benchmarks/attention.py).
_PLAIN_MAX_KEYS = 1024


def rope_tables(config: ModelConfig, *, local: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the rotary angles, [max_positions, C / 2] each, fp32 (RoFormer, arXiv 2104.09864)."""
    theta = config.rope_local_theta if local and config.rope_local_theta else config.rope_theta
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    freqs = 1.0 / theta ** (half / config.head_dim)
    if config.rope_scaling is not None and not (local and config.rope_local_theta):
        freqs = _scaled(freqs, config)
    angles = torch.arange(config.max_positions, dtype=torch.float32)[:, None] * freqs
    return angles.cos(), angles.sin()


def _scaled(freqs: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    assert config.rope_scaling is not None
    if config.rope_scaling.kind == "linear":
        return freqs / config.rope_scaling.factor
    return freqs / llama3_factors(config)


def llama3_factors(config: ModelConfig) -> torch.Tensor:
    """What Llama 3.1 divides each rotary frequency by: 1 for short wavelengths, the factor for long ones: [C / 2]."""
    scaling = config.rope_scaling
    assert scaling is not None
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    wavelength = 2 * math.pi * config.rope_theta ** (half / config.head_dim)
    rotations = scaling.original_max_positions / wavelength
    smooth = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    smooth = smooth.clamp(0.0, 1.0)
    return 1.0 / ((1.0 - smooth) / scaling.factor + smooth)


def rotate(x_BTHC: torch.Tensor, cos_BT1C: torch.Tensor, sin_BT1C: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + C/2) of features by its position's angle. cos and sin: [B or 1, T, 1, C / 2]."""
    first, second = x_BTHC.chunk(2, dim=-1)
    return torch.cat((first * cos_BT1C - second * sin_BT1C, second * cos_BT1C + first * sin_BT1C), dim=-1)


def attention_bias(
    mask_BTS: torch.Tensor | None,
    positions_BT: torch.Tensor,
    num_keys: int,
    key_positions_BS: torch.Tensor | None,
    window: int | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Additive mask [B or 1, 1, T, S]: 0 where a query may look, the most negative number elsewhere.

    mask_BTS (bool, True = may look) replaces the causal rule; the window, in positions, is applied on top.
    """
    if key_positions_BS is None:
        key_positions_BS = torch.arange(num_keys, device=positions_BT.device)[None]
    distance_BTS = positions_BT[:, :, None] - key_positions_BS[:, None, :]
    allowed_BTS = distance_BTS >= 0 if mask_BTS is None else mask_BTS
    if window is not None:
        allowed_BTS = allowed_BTS & (distance_BTS < window)
    zero = torch.zeros((), dtype=dtype, device=positions_BT.device)
    return torch.where(allowed_BTS, zero, torch.finfo(dtype).min)[:, None]


def attend(
    q_BHTC: torch.Tensor,
    k_BKSC: torch.Tensor,
    v_BKSC: torch.Tensor,
    bias_B1TS: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention output [B, H, T, C]. `bias_B1TS` None means causal with T == S."""
    if q_BHTC.device.type == "cpu" and k_BKSC.shape[2] <= _PLAIN_MAX_KEYS:
        return plain_attention(q_BHTC, k_BKSC, v_BKSC, bias_B1TS, scale)
    return F.scaled_dot_product_attention(
        q_BHTC, k_BKSC, v_BKSC, attn_mask=bias_B1TS, is_causal=bias_B1TS is None, scale=scale, enable_gqa=True
    )


def plain_attention(
    q_BHTC: torch.Tensor,
    k_BKSC: torch.Tensor,
    v_BKSC: torch.Tensor,
    bias_B1TS: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """`attend` by two matrix products and a softmax."""
    B, H, T, C = q_BHTC.shape
    K, S = k_BKSC.shape[1], k_BKSC.shape[2]
    if bias_B1TS is None:
        bias_B1TS = causal_bias(T, q_BHTC.dtype, q_BHTC.device)
    q_BKGC = q_BHTC.reshape(B * K, (H // K) * T, C)
    scores = torch.bmm(q_BKGC, (k_BKSC * scale).reshape(B * K, S, C).transpose(1, 2))
    weights = torch.softmax(scores.view(B, H, T, S).add_(bias_B1TS), dim=-1).view(B * K, (H // K) * T, S)
    return torch.bmm(weights, v_BKSC.reshape(B * K, S, C)).view(B, H, T, C)


def causal_bias(num_tokens: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The causal rule as an additive mask [1, 1, T, T]."""
    full = torch.full((num_tokens, num_tokens), torch.finfo(dtype).min, dtype=dtype, device=device)
    return full.triu(1)[None, None]
