"""The decoder. One file, every supported family: pre-norm blocks of attention and feed-forward layers.

Shapes: B rows, T tokens, D residual width, V vocabulary, H query heads, K key/value heads, C features of a head.
Query, key and value share one projection, gate and up another: fewer and larger matrix products.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from chatwright.errors import ModelError
from chatwright.kernels.dropout import Dropout
from chatwright.kernels.norm import rms_norm
from chatwright.model.attention import attend, attention_bias, causal_bias, rope_tables, rotate
from chatwright.model.config import ModelConfig
from chatwright.model.kv_cache import KVCache


class PlusOneRMSNorm(nn.Module):
    """RMSNorm whose factor is 1 + weight (Gemma). Kept as stored: in bf16 a weight plus one would lose its low bits."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> [..., size], computed in fp32."""
        factor = 1.0 + self.weight.float()
        return F.rms_norm(x.float(), self.weight.shape, factor, self.eps).type_as(x)


class RMSNorm(nn.RMSNorm):
    """RMSNorm (arXiv 1910.07467) with a faster backward pass in bf16 on the CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> [..., size]."""
        assert self.eps is not None
        return rms_norm(x, self.weight, self.eps)


def make_norm(config: ModelConfig, size: int) -> nn.Module:
    """RMSNorm (arXiv 1910.07467) or LayerNorm over the last dimension."""
    if config.norm == "layer":
        return nn.LayerNorm(size, eps=config.norm_eps)
    if config.norm == "rms_plus_one":
        return PlusOneRMSNorm(size, config.norm_eps)
    return RMSNorm(size, eps=config.norm_eps)


class Attention(nn.Module):
    """Grouped-query attention (arXiv 2305.13245) with optional qk-norm and a fused qkv projection."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.scale = config.attention_scale or config.head_dim**-0.5
        self.qkv = nn.Linear(config.hidden_size, config.qkv_size, bias=config.qkv_bias)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.hidden_size, bias=config.linear_bias)
        self.q_norm = make_norm(config, config.head_dim) if config.qk_norm else None
        self.k_norm = make_norm(config, config.head_dim) if config.qk_norm else None

    def forward(
        self,
        x_BTD: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
        bias_B1TS: torch.Tensor | None,
        positions_BT: torch.Tensor,
        cache: KVCache | None,
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        cfg = self.config
        B, T, _ = x_BTD.shape
        # split, not slices: the backward pass of a slice fills a whole tensor with zeros
        heads_BTHC = self.qkv(x_BTD).view(B, T, -1, cfg.head_dim)
        qk_BTHC, v_BTKC = heads_BTHC.split((cfg.num_heads + cfg.num_kv_heads, cfg.num_kv_heads), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk_BTHC.split((cfg.num_heads, cfg.num_kv_heads), dim=2)
            qk_BTHC = torch.cat((self.q_norm(q), self.k_norm(k)), dim=2)
        if rope is not None:
            qk_BTHC = rotate(qk_BTHC, *rope)
        q_BHTC, k_BKTC = qk_BTHC.transpose(1, 2).split((cfg.num_heads, cfg.num_kv_heads), dim=1)
        v_BKTC = v_BTKC.transpose(1, 2)
        if cache is not None:
            k_BKTC, v_BKTC = cache.write(self.layer, k_BKTC, v_BKTC, positions_BT)
        mixed_BHTC = attend(q_BHTC, k_BKTC, v_BKTC, bias_B1TS, self.scale)
        out: torch.Tensor = self.out(mixed_BHTC.transpose(1, 2).reshape(B, T, -1))
        return out


class FeedForward(nn.Module):
    """SwiGLU or GEGLU (arXiv 2002.05202) with gate and up fused, or the plain GELU layer of GPT-2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        width = config.intermediate_size * (2 if config.gated else 1)
        self.up = nn.Linear(config.hidden_size, width, bias=config.linear_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.linear_bias)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        inner = self.up(x_BTD)
        if self.kind == "gelu":
            inner = F.gelu(inner, approximate="tanh")
        else:
            gate, up = inner.chunk(2, dim=-1)
            inner = (F.silu(gate) if self.kind == "swiglu" else F.gelu(gate, approximate="tanh")) * up
        out: torch.Tensor = self.down(inner)
        return out


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); Gemma 3 also normalises what is added."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.hidden_size)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config, config.hidden_size)
        self.mlp = FeedForward(config)
        post = config.post_norms
        self.attention_post_norm = make_norm(config, config.hidden_size) if post else nn.Identity()
        self.mlp_post_norm = make_norm(config, config.hidden_size) if post else nn.Identity()
        self.dropout = Dropout(0.0)

    def forward(
        self,
        x_BTD: torch.Tensor,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
        bias_B1TS: torch.Tensor | None,
        positions_BT: torch.Tensor,
        cache: KVCache | None,
    ) -> torch.Tensor:
        """[B, T, D] -> [B, T, D]."""
        mixed = self.attention(self.attention_norm(x_BTD), rope, bias_B1TS, positions_BT, cache)
        x_BTD = x_BTD + self.dropout(self.attention_post_norm(mixed))
        fed = self.mlp(self.mlp_norm(x_BTD))
        x_BTD = x_BTD + self.dropout(self.mlp_post_norm(fed))
        return x_BTD


class _Embedding(nn.Embedding):
    """An embedding that draws no numbers where there is no memory for them ("meta": weights follow from a file).

    torch would import its compiler to draw them, which takes longer than to read the file: 4 of 7 processor seconds."""

    def reset_parameters(self) -> None:
        """See nn.Embedding."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Transformer(nn.Module):
    """Decoder-only transformer. `forward` gives the normalised hidden states, `logits` the next-token scores."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = _Embedding(config.vocab_size, config.hidden_size)
        self.position_embed = (
            _Embedding(config.max_positions, config.hidden_size) if config.positions == "learned" else None
        )
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.final_norm = make_norm(config, config.hidden_size)
        self.head = None if config.tie_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self._rope: dict[tuple[bool, torch.dtype, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}
        self.num_frozen = 0
        """Blocks at the bottom that are not trained (`freeze_bottom`): what `bottom` computes and `forward` can skip."""

    def set_dropout(self, p: float) -> None:
        """Residual dropout of every block (0 switches it off); active in train mode only."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.dropout.p = p

    def freeze_bottom(self, num_layers: int) -> None:
        """Keep the embeddings and the lowest `num_layers` blocks from being trained; 0 leaves everything as it is."""
        if not 0 <= num_layers <= len(self.blocks):
            raise ModelError(f"frozen layers: {num_layers}; the model has {len(self.blocks)}")
        self.num_frozen = num_layers
        if num_layers == 0:
            return
        self.embed.requires_grad_(False)
        if self.position_embed is not None:
            self.position_embed.requires_grad_(False)
        for block in self.blocks[:num_layers]:
            block.requires_grad_(False)

    def cut_layers(self, num_layers: int) -> None:
        """Keep only the lowest `num_layers` blocks (their states then go through the final norm)."""
        if not 1 <= num_layers <= len(self.blocks):
            raise ModelError(f"layers: {num_layers}; the model has {len(self.blocks)}")
        self.blocks = self.blocks[:num_layers]
        self.config = replace(self.config, num_layers=num_layers, local_layers=self.config.local_layers[:num_layers])

    def matrices(self) -> dict[str, tuple[int, ...]]:
        """Matrices of the blocks by parameter name, with the rows of the parts each stacks (query, key, value; gate, up)."""
        cfg = self.config
        q, k = cfg.num_heads * cfg.head_dim, cfg.num_kv_heads * cfg.head_dim
        parts: dict[str, tuple[int, ...]] = {"attention.qkv.weight": (q, k, k)}
        if cfg.gated:
            parts["mlp.up.weight"] = (cfg.intermediate_size,) * 2
        return {
            name: parts.get(name.split(".", 2)[2], (parameter.shape[0],))
            for name, parameter in self.named_parameters()
            if name.startswith("blocks.") and parameter.dim() == 2
        }

    def output_weight(self) -> torch.Tensor:
        """The [V, D] matrix that turns hidden states into logits."""
        return self.embed.weight if self.head is None else self.head.weight

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., V] in the model's dtype."""
        return F.linear(hidden, self.output_weight())

    def forward(
        self,
        tokens_BT: torch.Tensor,
        *,
        positions_BT: torch.Tensor | None = None,
        mask_BTS: torch.Tensor | None = None,
        cache: KVCache | None = None,
        bottom_BTD: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token ids [B, T] -> hidden states [B, T, D] after the final norm.

        Rows may be padded on the right: under the causal rule padding is never looked at by real tokens.
        `mask_BTS` (bool, True = may look) replaces the causal rule for packed rows and trees of answers, with
        `positions_BT` beside it. With a cache, the tokens continue each row and `mask_BTS` is not allowed.
        `bottom_BTD` is what `bottom` gave for the same tokens: only the blocks above the frozen ones are computed then.
        """
        if bottom_BTD is None:
            x_BTD = self._blocks(tokens_BT, None, range(len(self.blocks)), positions_BT, mask_BTS, cache)
        else:
            above = range(self.num_frozen, len(self.blocks))
            x_BTD = self._blocks(tokens_BT, bottom_BTD, above, positions_BT, mask_BTS, cache)
        out: torch.Tensor = self.final_norm(x_BTD)
        return out

    @torch.no_grad()
    def bottom(
        self,
        tokens_BT: torch.Tensor,
        *,
        positions_BT: torch.Tensor | None = None,
        mask_BTS: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, T] -> [B, T, D]: the states after the frozen blocks. They do not change while the model is trained, so they
        are computed once and shared by every pass, and by every model with the same bottom."""
        return self._blocks(tokens_BT, None, range(self.num_frozen), positions_BT, mask_BTS, None)

    def _blocks(
        self,
        tokens_BT: torch.Tensor,
        x_BTD: torch.Tensor | None,
        layers: range,
        positions_BT: torch.Tensor | None,
        mask_BTS: torch.Tensor | None,
        cache: KVCache | None,
    ) -> torch.Tensor:
        """The given blocks, on the embeddings or on `x_BTD`."""
        positions_BT, num_keys = self._positions(tokens_BT, positions_BT, mask_BTS, cache)
        if x_BTD is None:
            x_BTD = self._embed(tokens_BT, positions_BT)
        plain = mask_BTS is None and cache is None
        biases = {
            local: self._bias(positions_BT, mask_BTS, num_keys, local, plain, x_BTD.dtype, cache)
            for local in {self.config.is_local(n) for n in range(self.config.num_layers)}
        }
        ropes = {local: self._rope_at(positions_BT, local, x_BTD.dtype) for local in biases}
        for layer in layers:
            local = self.config.is_local(layer)
            x_BTD = self.blocks[layer](x_BTD, ropes[local], biases[local], positions_BT, cache)
        return x_BTD

    def _positions(
        self,
        tokens_BT: torch.Tensor,
        positions_BT: torch.Tensor | None,
        mask_BTS: torch.Tensor | None,
        cache: KVCache | None,
    ) -> tuple[torch.Tensor, int]:
        T = tokens_BT.shape[1]
        if cache is not None:
            assert mask_BTS is None and positions_BT is None, "a cache brings its own positions and mask"
            return cache.new_positions_BT(T), cache.span(T)
        if positions_BT is None:
            positions_BT = torch.arange(T, device=tokens_BT.device)[None]
        return positions_BT, T

    def _embed(self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor) -> torch.Tensor:
        x_BTD: torch.Tensor = self.embed(tokens_BT)
        if self.config.scale_embeddings:
            x_BTD = x_BTD * torch.tensor(self.config.hidden_size**0.5, dtype=x_BTD.dtype)
        if self.position_embed is not None:
            x_BTD = x_BTD + self.position_embed(positions_BT)
        return x_BTD

    def _bias(
        self,
        positions_BT: torch.Tensor,
        mask_BTS: torch.Tensor | None,
        num_keys: int,
        local: bool,
        plain: bool,
        dtype: torch.dtype,
        cache: KVCache | None,
    ) -> torch.Tensor | None:
        window = self.config.sliding_window if local else None
        if plain and (window is None or num_keys <= window):
            on_cpu = positions_BT.device.type == "cpu"
            return causal_bias(num_keys, dtype, positions_BT.device) if on_cpu else None
        key_positions_BS = None if cache is not None else positions_BT
        return attention_bias(mask_BTS, positions_BT, num_keys, key_positions_BS, window, dtype)

    def _rope_at(
        self, positions_BT: torch.Tensor, local: bool, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self.config.positions != "rope":
            return None
        key = (local, dtype, positions_BT.device)
        if key not in self._rope:
            cos, sin = rope_tables(self.config, local=local)
            self._rope[key] = (cos.to(positions_BT.device, dtype), sin.to(positions_BT.device, dtype))
        cos, sin = self._rope[key]
        return cos[positions_BT][:, :, None], sin[positions_BT][:, :, None]
