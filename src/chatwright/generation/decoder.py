"""The model as generation runs it: the mathematics of `model/transformer.py` on packed weights and a decode cache.

`Transformer.forward` is the reference; a test holds the two equal for every family. What is different here serves
speed: weights are reordered once (`kernels/decode.py`), activations, gates and residual sums are folded into the matrix
products, keys are stored transposed, and what a step needs (rotary angles, masks, places in the cache) is computed once
for all layers. Rows start at column 0 of the cache and masks only cut off columns at their end; with the key span
rounded up to whole blocks, what a row gets does not depend on its neighbours, bit for bit on the CPUs tried.

Shapes: R cache rows, B rows of this call, T tokens, N = B * T, D width, V vocabulary, S key columns, H query heads,
K key/value heads, G = H / K, C features of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from chatwright.kernels.decode import Activation, DecodeLinear, can_pack, decode_linear
from chatwright.model.attention import rope_tables
from chatwright.model.config import ModelConfig
from chatwright.model.transformer import Attention, Block, FeedForward, PlusOneRMSNorm, Transformer

SPAN_BLOCK = 32  # key columns are looked at in whole blocks: few shapes, and sums that do not depend on neighbours


class DecodeCache:
    """Keys (transposed) and values of R rows, `capacity` columns each. Column s of a row is its position s."""

    def __init__(self, config: ModelConfig, rows: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        layers, heads, size = config.num_layers, config.num_kv_heads, config.head_dim
        self.keys_LRKCS = torch.zeros((layers, rows, heads, size, capacity), dtype=dtype, device=device)
        self.values_LRKSC = torch.zeros((layers, rows, heads, capacity, size), dtype=dtype, device=device)

    @property
    def rows(self) -> int:
        """Sequences it can hold."""
        return self.keys_LRKCS.shape[1]

    @property
    def capacity(self) -> int:
        """Positions of a sequence it can hold."""
        return self.keys_LRKCS.shape[4]

    def copy_row(self, source: int, target: slice | int, length: int) -> None:
        """Give rows `target` the first `length` positions of row `source`."""
        rows = slice(target, target + 1) if isinstance(target, int) else target
        self.keys_LRKCS[:, rows, :, :, :length] = self.keys_LRKCS[:, source : source + 1, :, :, :length]
        self.values_LRKSC[:, rows, :, :length] = self.values_LRKSC[:, source : source + 1, :, :length]

    def copy_from(self, other: DecodeCache, rows: int, length: int) -> None:
        """Take over the first `length` positions of the first `rows` rows of another cache."""
        self.keys_LRKCS[:, :rows, :, :, :length] = other.keys_LRKCS[:, :rows, :, :, :length]
        self.values_LRKSC[:, :rows, :, :length] = other.values_LRKSC[:, :rows, :, :length]


@dataclass(frozen=True)
class _Norm:
    weight_D: torch.Tensor
    bias_D: torch.Tensor | None
    eps: float

    @classmethod
    def of(cls, module: nn.Module | None) -> _Norm | None:
        if isinstance(module, nn.LayerNorm):
            return cls(module.weight.detach(), module.bias.detach(), module.eps)
        if isinstance(module, nn.RMSNorm):
            assert module.eps is not None
            return cls(module.weight.detach(), None, module.eps)
        if isinstance(module, PlusOneRMSNorm):
            return cls(1.0 + module.weight.detach(), None, module.eps)
        return None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.weight_D.shape
        if self.bias_D is None:
            return F.rms_norm(x, shape, self.weight_D, self.eps)
        return F.layer_norm(x, shape, self.weight_D, self.bias_D, self.eps)


@dataclass(frozen=True)
class _Places:
    """Where the tokens of a call are: the same for all layers."""

    rope: dict[bool, tuple[torch.Tensor, torch.Tensor]]
    """Per kind of layer (local or not): cosines and signed sines, [N or T, 1, C] each."""
    bias: dict[bool, torch.Tensor]
    """Per kind of layer: additive mask [B * K, G * T, S]."""
    key_index_BKC: torch.Tensor | None
    """Decode step: flat place of each new key feature in a layer's keys."""
    value_index_BK: torch.Tensor | None
    """Decode step: flat row of each new value in a layer's values."""
    first_row: int
    start: int
    span: int
    num_rows: int
    num_tokens: int


@dataclass(frozen=True)
class _Layer:
    local: bool
    attention_norm: _Norm
    qkv: DecodeLinear
    q_norm: _Norm | None
    k_norm: _Norm | None
    out: DecodeLinear
    attention_post_norm: _Norm | None
    mlp_norm: _Norm
    gate: DecodeLinear | None
    up: DecodeLinear
    down: DecodeLinear
    mlp_post_norm: _Norm | None


class Decoder:
    """Runs a Transformer for generation. `pack` reads its weights; call it again when they have changed."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.config = model, model.config
        self.dtype, self.device = model.embed.weight.dtype, model.embed.weight.device
        self.packed = can_pack(self.dtype, self.device)
        self.scale = self.config.attention_scale or self.config.head_dim**-0.5
        self.activation: Activation = "silu" if self.config.mlp == "swiglu" else "gelu_tanh"
        self._rope = {local: self._rope_tables(local) for local in self._kinds()}
        self.layers: list[_Layer] = []

    def _kinds(self) -> set[bool]:
        return {self.config.is_local(layer) for layer in range(self.config.num_layers)}

    def _rope_tables(self, local: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosines and sines [max_positions, 1, C]; the sign of the rotation is in the sines."""
        if self.config.positions != "rope":
            return None
        cos, sin = (table.to(self.device, self.dtype) for table in rope_tables(self.config, local=local))
        return torch.cat((cos, cos), -1)[:, None], torch.cat((-sin, sin), -1)[:, None]

    # ---- weights ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def pack(self) -> None:
        """Read the model's weights (LoRA adapters merged in) into the layout of the matrix products."""
        self.layers = []
        for block in self.model.blocks:
            assert isinstance(block, Block)
            self.layers.append(self._pack_block(block))
        self.final_norm = self._norm(self.model.final_norm)
        self.head = decode_linear(self.model.output_weight(), packed=self.packed)

    @staticmethod
    def _norm(module: nn.Module) -> _Norm:
        norm = _Norm.of(module)
        assert norm is not None
        return norm

    def _linear(self, module: nn.Module, rows: slice = slice(None)) -> DecodeLinear:
        weight_OI, bias_O = effective_weight(module)
        return decode_linear(weight_OI[rows], None if bias_O is None else bias_O[rows], packed=self.packed)

    def _pack_block(self, block: Block) -> _Layer:
        attention, mlp, width = block.attention, block.mlp, self.config.intermediate_size
        assert isinstance(attention, Attention) and isinstance(mlp, FeedForward)
        gated = self.config.gated
        return _Layer(
            local=self.config.is_local(attention.layer),
            attention_norm=self._norm(block.attention_norm),
            qkv=self._linear(attention.qkv),
            q_norm=_Norm.of(attention.q_norm),
            k_norm=_Norm.of(attention.k_norm),
            out=self._linear(attention.out),
            attention_post_norm=_Norm.of(block.attention_post_norm),
            mlp_norm=self._norm(block.mlp_norm),
            gate=self._linear(mlp.up, slice(0, width)) if gated else None,
            up=self._linear(mlp.up, slice(width, 2 * width)) if gated else self._linear(mlp.up),
            down=self._linear(mlp.down),
            mlp_post_norm=_Norm.of(block.mlp_post_norm),
        )

    # ---- running ---------------------------------------------------------------------------------------

    def prefill(self, tokens_BT: torch.Tensor, cache: DecodeCache, *, first_row: int, start: int) -> None:
        """Write keys and values of T tokens of B rows, from column `start` on, into rows first_row.. of the cache.

        Rows may be padded on the right; what padding writes lies behind a row's length and is written over later.
        """
        B, T = tokens_BT.shape
        positions_T = torch.arange(start, start + T, device=self.device)
        span = round_up(start + T, SPAN_BLOCK, cache.capacity)
        rope = {local: (t[0][positions_T].repeat(B, 1, 1), t[1][positions_T].repeat(B, 1, 1))
                for local, t in self._rope.items() if t is not None}  # fmt: skip
        bias = {local: self._bias(positions_T[None].expand(B, T), span, local) for local in self._rope}
        places = _Places(rope, bias, None, None, first_row, start, span, B, T)
        self._run(tokens_BT.reshape(-1), positions_T.repeat(B), places, cache, last_layer_output=False)

    def step(self, tokens_B: torch.Tensor, positions_B: torch.Tensor, longest: int, cache: DecodeCache) -> torch.Tensor:
        """One token for each of the first B rows of the cache, at `positions_B` (at most `longest`): logits [B, V]."""
        B = tokens_B.shape[0]
        cfg = self.config
        span = round_up(longest + 1, SPAN_BLOCK, cache.capacity)
        rope = {local: (t[0][positions_B], t[1][positions_B]) for local, t in self._rope.items() if t is not None}
        bias = {local: self._bias(positions_B[:, None], span, local) for local in self._rope}
        rows_BK = torch.arange(B * cfg.num_kv_heads, device=self.device).view(B, cfg.num_kv_heads)
        features_BKC = rows_BK[:, :, None] * cfg.head_dim + torch.arange(cfg.head_dim, device=self.device)
        key_index_BKC = features_BKC * cache.capacity + positions_B[:, None, None]
        value_index_BK = rows_BK * cache.capacity + positions_B[:, None]
        places = _Places(rope, bias, key_index_BKC, value_index_BK.reshape(-1), 0, 0, span, B, 1)
        x_ND = self._run(tokens_B, positions_B, places, cache, last_layer_output=True)
        return self.head.apply(self.final_norm(x_ND))

    def _bias(self, positions_BT: torch.Tensor, span: int, local: bool) -> torch.Tensor:
        """[B * K, G * T, S]: 0 where a token may look, the most negative number elsewhere."""
        cfg = self.config
        B, T = positions_BT.shape
        distance_BTS = positions_BT[:, :, None] - torch.arange(span, device=self.device)
        allowed_BTS = distance_BTS >= 0
        if local and cfg.sliding_window is not None:
            allowed_BTS &= distance_BTS < cfg.sliding_window
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        bias_BTS = torch.where(allowed_BTS, zero, torch.finfo(self.dtype).min)
        return bias_BTS[:, None].expand(B, cfg.num_heads, T, span).reshape(B * cfg.num_kv_heads, -1, span)

    def _run(
        self, tokens_N: torch.Tensor, positions_N: torch.Tensor, places: _Places, cache: DecodeCache, *, last_layer_output: bool
    ) -> torch.Tensor:
        x_ND = F.embedding(tokens_N, self.model.embed.weight)
        if self.config.scale_embeddings:
            x_ND = x_ND * torch.tensor(self.config.hidden_size**0.5, dtype=x_ND.dtype)
        if self.model.position_embed is not None:
            x_ND = x_ND + F.embedding(positions_N, self.model.position_embed.weight)
        for number, layer in enumerate(self.layers):
            qkv_NQ = layer.qkv.apply(layer.attention_norm(x_ND))
            q_NHC = self._store(layer, number, qkv_NQ, places, cache)
            if not last_layer_output and number == len(self.layers) - 1:
                return x_ND  # keys and values are all that prefill needs
            mixed_NO = self._attend(number, q_NHC, places.bias[layer.local], places, cache)
            if layer.attention_post_norm is None:
                x_ND = layer.out.add_to(mixed_NO, x_ND)
            else:
                x_ND = x_ND + layer.attention_post_norm(layer.out.apply(mixed_NO))
            x_ND = self._feed_forward(layer, x_ND)
        return x_ND

    def _store(
        self, layer: _Layer, number: int, qkv_NQ: torch.Tensor, places: _Places, cache: DecodeCache
    ) -> torch.Tensor:
        """Normalise and turn queries and keys, put keys and values into the cache, return the queries [N, H, C]."""
        cfg = self.config
        num_qk = cfg.num_heads + cfg.num_kv_heads
        heads_NHC = qkv_NQ.view(-1, num_qk + cfg.num_kv_heads, cfg.head_dim)
        qk_NHC, v_NKC = heads_NHC[:, :num_qk], heads_NHC[:, num_qk:]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = qk_NHC[:, : cfg.num_heads], qk_NHC[:, cfg.num_heads :]
            qk_NHC = torch.cat((layer.q_norm(q), layer.k_norm(k)), dim=1)
        if layer.local in places.rope:
            cos, sin = places.rope[layer.local]
            qk_NHC = torch.addcmul(qk_NHC * cos, qk_NHC.roll(cfg.head_dim // 2, -1), sin)
        k_NKC = qk_NHC[:, cfg.num_heads :]
        keys_RKCS, values_RKSC = cache.keys_LRKCS[number], cache.values_LRKSC[number]
        if places.key_index_BKC is not None and places.value_index_BK is not None:
            keys_RKCS.view(-1).put_(places.key_index_BKC, k_NKC)
            values_RKSC.view(-1, cfg.head_dim).index_copy_(0, places.value_index_BK, v_NKC.reshape(-1, cfg.head_dim))
        else:
            rows = slice(places.first_row, places.first_row + places.num_rows)
            columns = slice(places.start, places.start + places.num_tokens)
            shape = (places.num_rows, places.num_tokens, cfg.num_kv_heads, cfg.head_dim)
            keys_RKCS[rows, :, :, columns] = k_NKC.reshape(shape).permute(0, 2, 3, 1)
            values_RKSC[rows, :, columns] = v_NKC.reshape(shape).transpose(1, 2)
        return qk_NHC[:, : cfg.num_heads]

    def _attend(
        self, number: int, q_NHC: torch.Tensor, bias: torch.Tensor, places: _Places, cache: DecodeCache
    ) -> torch.Tensor:
        """[N, H * C]."""
        cfg, B, T = self.config, places.num_rows, places.num_tokens
        rows = slice(places.first_row, places.first_row + B)
        k = cache.keys_LRKCS[number, rows, :, :, : places.span].flatten(0, 1)
        v = cache.values_LRKSC[number, rows, :, : places.span].flatten(0, 1)
        if T == 1:
            q = q_NHC.reshape(B * cfg.num_kv_heads, -1, cfg.head_dim)
        else:
            q = q_NHC.reshape(B, T, cfg.num_heads, cfg.head_dim).transpose(1, 2)
            q = q.reshape(B * cfg.num_kv_heads, -1, cfg.head_dim)
        scores = torch.baddbmm(bias, q, k, alpha=self.scale)
        mixed = torch.bmm(torch.softmax(scores, dim=-1), v)
        if T == 1:
            return mixed.view(B, -1)
        return mixed.view(B, cfg.num_heads, T, cfg.head_dim).transpose(1, 2).reshape(B * T, -1)

    def _feed_forward(self, layer: _Layer, x_ND: torch.Tensor) -> torch.Tensor:
        h_ND = layer.mlp_norm(x_ND)
        if layer.gate is None:
            inner = layer.up.apply(h_ND, self.activation)
        else:
            inner = layer.up.times(h_ND, layer.gate.apply(h_ND, self.activation))
        if layer.mlp_post_norm is None:
            return layer.down.add_to(inner, x_ND)
        return x_ND + layer.mlp_post_norm(layer.down.apply(inner))


def effective_weight(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight [O, I] and bias of a linear layer, with a LoRA adapter merged in if it has one."""
    merged = getattr(module, "merged_weight", None)
    if callable(merged):
        base = getattr(module, "base", module)
        return merged(), getattr(base, "bias", None)
    assert isinstance(module, nn.Linear)
    return module.weight.detach(), None if module.bias is None else module.bias.detach()


def round_up(number: int, block: int, most: int | None = None) -> int:
    """The next multiple of `block` (at most `most`)."""
    up = -(-number // block) * block
    return up if most is None else min(up, most)
