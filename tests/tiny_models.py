"""Tiny random models of every family, made without transformers."""

from __future__ import annotations

from typing import Any

import torch

from chatwright.model.config import ModelConfig, RopeScaling
from chatwright.model.init import initialised
from chatwright.model.transformer import Transformer

_GEMMA: dict[str, Any] = {
    "norm": "rms_plus_one",
    "mlp": "geglu",
    "qk_norm": True,
    "post_norms": True,
    "scale_embeddings": True,
    "attention_scale": 16**-0.5,
    "head_dim": 16,
    "num_layers": 7,
    "sliding_window": 6,
    "local_layers": (True, True, True, True, True, False, True),
    "rope_theta": 1e6,
    "rope_local_theta": 1e4,
    "norm_eps": 1e-6,
}
_GPT2: dict[str, Any] = {
    "norm": "layer",
    "positions": "learned",
    "mlp": "gelu",
    "qkv_bias": True,
    "linear_bias": True,
    "num_kv_heads": 4,
}
_LLAMA3 = RopeScaling(kind="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama-untied": {"family": "llama", "tie_embeddings": False, "rope_theta": 1e5},
    "llama3": {"family": "llama", "rope_theta": 5e5, "rope_scaling": _LLAMA3},
    "llama-linear": {"family": "llama", "rope_scaling": RopeScaling(kind="linear", factor=2.0)},
    "mistral": {"family": "mistral", "norm_eps": 1e-6},
    "qwen2": {"family": "qwen2", "qkv_bias": True, "rope_theta": 1e6, "norm_eps": 1e-6},
    "qwen3": {"family": "qwen3", "qk_norm": True, "head_dim": 16, "rope_theta": 1e6, "tie_embeddings": False},
    "gemma3": {"family": "gemma3"} | _GEMMA,
    "gpt2": {"family": "gpt2"} | _GPT2,
}


def tiny_config(kind: str, vocab_size: int = 64, **changes: Any) -> ModelConfig:
    """Width 32, two layers (gemma3: seven), 4 query and 2 key/value heads."""
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "intermediate_size": 64,
        "max_positions": 64,
    }
    return ModelConfig(**sizes | KINDS[kind] | changes)


@torch.no_grad()
def tiny_model(kind: str, vocab_size: int = 64, seed: int = 0, **changes: Any) -> Transformer:
    """Random weights large enough that every part moves the logits; norms and biases are random too."""
    model = initialised(tiny_config(kind, vocab_size, **changes), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter += 0.2 * noise
        else:
            parameter.copy_(noise * (0.5 if "embed" in name else 1.4 * parameter.shape[1] ** -0.5))
    return model.eval()


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
SPLITTERS: dict[str, dict[str, Any]] = {
    "gpt-2": BYTE_LEVEL | {"use_regex": True},
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL | {"use_regex": True}],
    },
} | {
    name: {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": f"{CONTRACTIONS}|{digits}|{REST}"},
                "behavior": "Isolated",
                "invert": False,
            },
            BYTE_LEVEL | {"use_regex": False},
        ],
    }
    for name, digits in (("qwen2", r"\p{N}"), ("llama-bpe", r"\p{N}{1,3}"))
}
"""llama.cpp's names -> how the original tokenizer.json of GPT-2, SmolLM2, Qwen2 and Llama 3 splits text."""
