"""The model as generation runs it: the mathematics of `model/transformer.py` on packed weights and a decode cache.

`Transformer.forward` is the reference; a test holds the two equal for every family. What is different here serves
speed: weights are reordered once (`kernels/decode.py`), activations, gates and residual sums are folded into the matrix
products, and what a step needs (rotary angles, masks, places in the cache) is computed once for all layers. Rows start
at column 0 of the cache and masks only cut off columns at their end; with the columns rounded up to whole blocks, what a
row gets does not depend on its neighbours, bit for bit on the CPUs tried.

Shapes: R cache rows, B rows of this call, T tokens, N = B * T, D width, V vocabulary, S key columns, H query heads,
K key/value heads, G = H / K, C features of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from chatwright.generation.shapes import span_of
from chatwright.kernels.decode import Activation, AdaptedLinear, DecodeLinear, can_pack, decode_linear
from chatwright.model.attention import rope_tables
from chatwright.model.config import ModelConfig
from chatwright.model.lora import LoraLinear
from chatwright.model.transformer import Attention, Block, FeedForward, PlusOneRMSNorm, Transformer


@dataclass(frozen=True, slots=True)
class _CacheViews:
    """One layer of a cache; A = B * K for the rows of a call."""

    all_2RKSC: torch.Tensor
    vectors_C: torch.Tensor
    """Every key and value vector of the layer."""
    k_ACS: torch.Tensor
    v_ASC: torch.Tensor


class DecodeCache:
    """Keys and values of R rows, one tensor per layer. Column s of a row is its position s.

    There are exactly as many columns as a step looks at (`grow` adds some), so that what the matrix products read is
    contiguous: they would copy anything else first, which doubles the time of attention.
    """

    def __init__(self, config: ModelConfig, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (2, rows, config.num_kv_heads, 0, config.head_dim)
        self.layers_2RKSC = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self._views: tuple[tuple[int, int, int], list[_CacheViews]] | None = None

    @property
    def rows(self) -> int:
        """Sequences it can hold."""
        return self.layers_2RKSC[0].shape[1]

    @property
    def columns(self) -> int:
        """Positions of a sequence it can hold."""
        return self.layers_2RKSC[0].shape[3]

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(layer.nbytes for layer in self.layers_2RKSC)

    def grow(self, columns: int) -> None:
        """Give every row this many columns; what is there stays."""
        self.resize(self.rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        """Make it this many rows of this many columns; what fits of what is there stays."""
        kept_rows, kept = min(rows, self.rows), min(columns, self.columns)
        for number, layer in enumerate(self.layers_2RKSC):
            # Zeros, not whatever is in memory: masked columns are multiplied by 0, which a NaN would survive.
            new = layer.new_zeros((2, rows, layer.shape[2], columns, layer.shape[4]))
            new[:, :kept_rows, :, :kept] = layer[:, :kept_rows, :, :kept]
            self.layers_2RKSC[number] = new
        self._views = None

    def views(self, first_row: int, num_rows: int, span: int) -> list[_CacheViews]:
        """Per layer, what a call reads and writes. Kept for the next step, for which it mostly is the same."""
        key = (first_row, num_rows, span)
        if self._views is None or self._views[0] != key:
            made = []
            for layer in self.layers_2RKSC:
                k_ASC, v_ASC = layer[:, first_row : first_row + num_rows, :, :span].flatten(1, 2).unbind()
                made.append(_CacheViews(layer, layer.view(-1, layer.shape[-1]), k_ASC.transpose(1, 2), v_ASC))
            self._views = (key, made)
        return self._views[1]

    def copy_row(self, source: int, target: slice | int, length: int) -> None:
        """Give rows `target` the first `length` positions of row `source`."""
        rows = slice(target, target + 1) if isinstance(target, int) else target
        for layer in self.layers_2RKSC:
            layer[:, rows, :, :length] = layer[:, source : source + 1, :, :length]


class _Norm:
    """A norm with its weights as they were when packed. 16-bit models: computed in fp32, rounded once."""

    def __init__(self, weight_D: torch.Tensor, bias_D: torch.Tensor | None, eps: float, dtype: torch.dtype) -> None:
        self.low = dtype in (torch.bfloat16, torch.float16)
        self.weight_D = weight_D.detach().float() if self.low and bias_D is None else weight_D.detach().clone()
        self.bias_D = None if bias_D is None else bias_D.detach().clone()
        self.eps, self.eps_tensor = eps, torch.tensor(eps, device=weight_D.device)

    @classmethod
    def of(cls, module: nn.Module | None, dtype: torch.dtype) -> _Norm | None:
        """From the model's module; None where there is no norm."""
        if isinstance(module, nn.LayerNorm):
            return cls(module.weight, module.bias, module.eps, dtype)
        if isinstance(module, nn.RMSNorm):
            assert module.eps is not None
            return cls(module.weight, None, module.eps, dtype)
        if isinstance(module, PlusOneRMSNorm):
            return cls(1.0 + module.weight.float(), None, module.eps, dtype)
        assert module is None or isinstance(module, nn.Identity)
        return None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        shape = self.weight_D.shape
        if self.bias_D is not None:
            return torch.layer_norm(x, shape, self.weight_D, self.bias_D, self.eps)
        if not self.low:
            return torch.rms_norm(x, shape, self.weight_D, self.eps)
        # Half as many operations as torch.rms_norm takes here; with one row, they are what costs.
        exact = x.float()
        norm = torch.linalg.vector_norm(exact, 2, -1, True)
        scale = torch.addcmul(self.eps_tensor, norm, norm, value=1 / shape[0]).rsqrt_()
        return exact.mul_(scale).mul_(self.weight_D).to(x.dtype)


@dataclass(frozen=True)
class _Places:
    """Where the tokens of a call are: the same for all layers."""

    num_rows: int
    num_tokens: int
    """Of each row."""
    first_row: int
    start: int
    """Prefill: the column of the first token."""
    rope: dict[bool, tuple[torch.Tensor, torch.Tensor]]
    """Per kind of layer (local or not): cosines and signed sines, [N, 1, 2, C / 2] each."""
    bias: dict[bool, torch.Tensor]
    """Per kind of layer: additive mask [B * K, G * T, S]."""
    index: torch.Tensor | None
    """Decode step: for each new key and value vector [B, 2 * K], its place among all vectors of a layer."""


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
        """Cosines and sines [max_positions, 1, 2, C / 2]; the sign of the rotation is in the sines."""
        if self.config.positions != "rope":
            return None
        cos, sin = (table.to(self.device, self.dtype) for table in rope_tables(self.config, local=local))
        return torch.stack((cos, cos), 1)[:, None], torch.stack((-sin, sin), 1)[:, None]

    # ---- weights ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def pack(self) -> None:
        """Read the model's weights and LoRA adapters into the layout of the matrix products."""
        layers = []
        for block in self.model.blocks:
            assert isinstance(block, Block)
            layers.append(self._pack_block(block))
        self.layers = layers
        self.final_norm = self._norm(self.model.final_norm)
        self.head = decode_linear(self.model.output_weight(), packed=self.packed)

    def _norm(self, module: nn.Module) -> _Norm:
        norm = _Norm.of(module, self.dtype)
        assert norm is not None
        return norm

    def _linear(self, module: nn.Module, rows: slice = slice(None)) -> DecodeLinear:
        """The given output rows of a linear layer, with its adapter if it has one."""
        if isinstance(module, LoraLinear) and module.enabled and self.dtype != torch.float32:
            # Added to 16-bit weights, a small adapter would be rounded away: it stays beside them.
            base = self._linear(module.base, rows)
            a_RI, b_OR = (t.to(self.dtype) for t in _stacked(module))
            return AdaptedLinear(base, *(decode_linear(t, packed=self.packed) for t in (a_RI, b_OR[rows])))
        plain = module.base if isinstance(module, LoraLinear) else module
        assert isinstance(plain, nn.Linear)
        weight_OI = module.merged_weight() if isinstance(module, LoraLinear) else plain.weight
        bias_O = plain.bias
        return decode_linear(weight_OI[rows], None if bias_O is None else bias_O[rows], packed=self.packed)

    def _pack_block(self, block: Block) -> _Layer:
        attention, mlp, width = block.attention, block.mlp, self.config.intermediate_size
        assert isinstance(attention, Attention) and isinstance(mlp, FeedForward)
        gated = self.config.gated
        return _Layer(
            local=self.config.is_local(attention.layer),
            attention_norm=self._norm(block.attention_norm),
            qkv=self._linear(attention.qkv),
            q_norm=_Norm.of(attention.q_norm, self.dtype),
            k_norm=_Norm.of(attention.k_norm, self.dtype),
            out=self._linear(attention.out),
            attention_post_norm=_Norm.of(block.attention_post_norm, self.dtype),
            mlp_norm=self._norm(block.mlp_norm),
            gate=self._linear(mlp.up, slice(0, width)) if gated else None,
            up=self._linear(mlp.up, slice(width, 2 * width)) if gated else self._linear(mlp.up),
            down=self._linear(mlp.down),
            mlp_post_norm=_Norm.of(block.mlp_post_norm, self.dtype),
        )

    # ---- running ---------------------------------------------------------------------------------------

    def prefill(self, tokens_BT: torch.Tensor, cache: DecodeCache, *, first_row: int, start: int) -> None:
        """Write keys and values of T tokens of B rows, from column `start` on, into rows first_row.. of the cache.

        Rows may be padded on the right; what padding writes lies behind a row's length and is written over later.
        """
        B, T = tokens_BT.shape
        last = self.config.max_positions - 1  # padding may go beyond
        positions_T = torch.arange(start, start + T, device=self.device).clamp_(max=last)
        rope = {
            local: (t[0][positions_T].repeat(B, 1, 1, 1), t[1][positions_T].repeat(B, 1, 1, 1))
            for local, t in self._rope.items()
            if t is not None
        }
        span = span_of(start + T)
        assert span <= cache.columns, "the cache has no room for these tokens"
        bias = {local: self._bias(positions_T[None].expand(B, T), span, local) for local in self._rope}
        places = _Places(B, T, first_row, start, rope, bias, None)
        self._run(tokens_BT.reshape(-1), positions_T.repeat(B), places, cache, only_cache=True)

    def step(self, tokens_B: torch.Tensor, positions_B: torch.Tensor, cache: DecodeCache) -> torch.Tensor:
        """One token, at its position, for each of the first B rows of the cache: logits [B, V]."""
        B, K, S = tokens_B.shape[0], self.config.num_kv_heads, cache.columns
        rope = {local: (t[0][positions_B], t[1][positions_B]) for local, t in self._rope.items() if t is not None}
        bias = {local: self._bias(positions_B[:, None], S, local) for local in self._rope}
        vectors_BK = torch.arange(B * K, device=self.device).view(B, K) * S + positions_B[:, None]
        index = torch.cat((vectors_BK, vectors_BK + cache.rows * K * S), dim=1).reshape(-1)
        x_ND = self._run(tokens_B, positions_B, _Places(B, 1, 0, 0, rope, bias, index), cache)
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
        self,
        tokens_N: torch.Tensor,
        positions_N: torch.Tensor,
        places: _Places,
        cache: DecodeCache,
        *,
        only_cache: bool = False,
    ) -> torch.Tensor:
        """Hidden states [N, D] before the final norm; `only_cache`: stop once all keys and values are written."""
        x_ND = torch.embedding(self.model.embed.weight, tokens_N)
        if self.config.scale_embeddings:
            x_ND = x_ND * torch.tensor(self.config.hidden_size**0.5, dtype=x_ND.dtype)
        if self.model.position_embed is not None:
            x_ND = x_ND + torch.embedding(self.model.position_embed.weight, positions_N)
        span = next(iter(places.bias.values())).shape[-1]
        views = cache.views(places.first_row, places.num_rows, span)
        for layer, view in zip(self.layers, views, strict=True):
            q_NO = self._store(layer, layer.qkv.apply(layer.attention_norm(x_ND)), places, view)
            if only_cache and layer is self.layers[-1]:
                break
            mixed_NO = self._attend(q_NO, places.bias[layer.local], places, view)
            if layer.attention_post_norm is None:
                x_ND = layer.out.add_to(mixed_NO, x_ND)
            else:
                x_ND = x_ND + layer.attention_post_norm(layer.out.apply(mixed_NO))
            x_ND = self._feed_forward(layer, x_ND)
        return x_ND

    def _store(self, layer: _Layer, qkv_NQ: torch.Tensor, places: _Places, cache: _CacheViews) -> torch.Tensor:
        """Normalise and turn queries and keys, put keys and values into the cache, return the queries [N, H * C]."""
        cfg = self.config
        H, K, C = cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
        if layer.q_norm is not None and layer.k_norm is not None:
            q_NHC, k_NKC = qkv_NQ.view(-1, H + 2 * K, C)[:, : H + K].split((H, K), dim=1)
            q_NHC.copy_(layer.q_norm(q_NHC))
            k_NKC.copy_(layer.k_norm(k_NKC))
        if layer.local in places.rope:
            cos, sin = places.rope[layer.local]
            halves = qkv_NQ.view(-1, H + 2 * K, 2, C // 2).narrow(1, 0, H + K)
            swapped = halves.flip(2)
            halves.mul_(cos).addcmul_(swapped, sin)
        kv_NO = qkv_NQ.narrow(1, H * C, 2 * K * C)
        if places.index is not None:
            cache.vectors_C.index_copy_(0, places.index, kv_NO.reshape(-1, C))
        else:
            rows = slice(places.first_row, places.first_row + places.num_rows)
            columns = slice(places.start, places.start + places.num_tokens)
            new_BT2KC = kv_NO.reshape(places.num_rows, places.num_tokens, 2, K, C)
            cache.all_2RKSC[:, rows, :, columns] = new_BT2KC.permute(2, 0, 3, 1, 4)
        return qkv_NQ.narrow(1, 0, H * C)

    def _attend(self, q_NO: torch.Tensor, bias: torch.Tensor, places: _Places, cache: _CacheViews) -> torch.Tensor:
        """[N, H * C]."""
        cfg, B, T = self.config, places.num_rows, places.num_tokens
        if T > 1:
            q_NO = q_NO.reshape(B, T, cfg.num_heads, cfg.head_dim).transpose(1, 2)
        q_AGC = q_NO.reshape(B * cfg.num_kv_heads, -1, cfg.head_dim)
        scores = torch.add(bias, torch.bmm(q_AGC, cache.k_ACS), alpha=self.scale)
        mixed = torch.bmm(torch.softmax(scores, -1), cache.v_ASC)
        if T > 1:
            mixed = mixed.view(B, cfg.num_heads, T, cfg.head_dim).transpose(1, 2)
        return mixed.reshape(B * T, -1)

    def _feed_forward(self, layer: _Layer, x_ND: torch.Tensor) -> torch.Tensor:
        h_ND = layer.mlp_norm(x_ND)
        if layer.gate is None:
            inner = layer.up.apply(h_ND, self.activation)
        else:
            inner = layer.up.times(h_ND, layer.gate.apply(h_ND, self.activation))
        if layer.mlp_post_norm is None:
            return layer.down.add_to(inner, x_ND)
        return x_ND + layer.mlp_post_norm(layer.down.apply(inner))


def _stacked(layer: LoraLinear) -> tuple[torch.Tensor, torch.Tensor]:
    """All adapters of a fused layer as one: A [sum of R, I] and B [O, sum of R] with the scale in it, fp32."""
    b_OR = torch.block_diag(
        *(layer.lora_b_OR[key] if adapted else torch.zeros(rows, 0) for key, rows, adapted in _adapter_parts(layer))
    )
    a_RI = torch.cat([layer.lora_a_RI[key] for key, _, adapted in _adapter_parts(layer) if adapted])
    return a_RI.detach(), b_OR.detach() * layer.scale


def _adapter_parts(layer: LoraLinear) -> list[tuple[str, int, bool]]:
    return [(part.name.rpartition(".")[2], part.rows, part.adapted) for part in layer.parts]
