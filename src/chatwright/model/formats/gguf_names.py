"""What llama.cpp calls the tensors, and how it orders the rows of Q and K."""

from __future__ import annotations

import re

import torch

from chatwright.model.config import Family

ARCHITECTURES: dict[str, Family] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3": "gemma3",
    "gpt2": "gpt2",
}
_LLAMA_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_NAMES = _LLAMA_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GPT2_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_LAYER = re.compile(r"^(?:model\.layers|transformer\.h)\.(\d+)\.(.+)$")


def gguf_name(family: Family, hf_name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`."""
    names = {"gpt2": _GPT2_NAMES, "gemma3": _GEMMA_NAMES}.get(family, _LLAMA_NAMES)
    stem, _, part = hf_name.rpartition(".")
    layer = _LAYER.match(stem)
    if layer is None:
        return f"{names[stem]}.{part}"
    return f"blk.{layer[1]}.{names[layer[2]]}.{part}"


def unpermute(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """llama.cpp's row order (pairs side by side) -> ours (first halves of a head, then second halves)."""
    rows = weight.shape[0]
    return weight.view(num_heads, rows // num_heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


def permute(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The inverse of `unpermute`."""
    rows = weight.shape[0]
    return weight.view(num_heads, 2, rows // num_heads // 2, -1).transpose(1, 2).reshape(weight.shape)
