"""Weights for a model from scratch: GPT-2's rule (Radford et al. 2019, section 2.3; openai/gpt-2 src/model.py)."""

from __future__ import annotations

import torch
from torch import nn

from chatwright.model.config import ModelConfig
from chatwright.model.transformer import PlusOneRMSNorm, Transformer

STD = 0.02
POSITION_STD = 0.01


def initialised(
    config: ModelConfig, seed: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """A new Transformer. Its weights depend on config and seed only, not on device, dtype or the global generator."""
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to_empty(device="cpu")
    fill(model, seed)
    return model.to(device=device, dtype=dtype)


@torch.no_grad()
def fill(model: Transformer, seed: int) -> None:
    """Set every parameter in place: matrices N(0, 0.02), the two that write to the residual stream divided by
    sqrt(2 num_layers), learned positions N(0, 0.01), biases 0, norms the identity."""
    generator = torch.Generator().manual_seed(seed)
    residual_std = STD / (2 * model.config.num_layers) ** 0.5
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            std = residual_std if name.endswith(("attention.out", "mlp.down")) else STD
            std = POSITION_STD if name == "position_embed" else std
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, PlusOneRMSNorm):
            module.weight.zero_()
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            module.weight.fill_(1.0)
            if isinstance(module, nn.LayerNorm):
                module.bias.zero_()
