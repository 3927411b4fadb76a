"""GGUF files (llama.cpp): every tensor under its Hugging Face name, dequantised to fp32.

What llama.cpp changes on the way in is undone here: rows of Q and K of the llama architecture are permuted, gemma's
norms carry the plus one, GPT-2's matrices are [out, in].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chatwright.errors import ModelError
from chatwright.model.attention import llama3_factors
from chatwright.model.config import Family, ModelConfig, RopeScaling
from chatwright.model.formats.gguf_header import Header, TensorInfo, read_parts
from chatwright.model.formats.gguf_names import ARCHITECTURES, gguf_name, unpermute
from chatwright.model.formats.hf_config import MAX_LAYERS, MAX_SIZE, whole
from chatwright.model.formats.huggingface import tensor_map

_IGNORED = {"rope_freqs.weight"}
_UNQUANTISED = (0, 1, 30)  # F32, F16, BF16


@dataclass(frozen=True, kw_only=True)
class GGUFModel:
    """A GGUF file taken apart."""

    header: Header
    """Metadata (tokenizer included) and tensor table."""
    config: ModelConfig
    """Shape of the model."""

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Hugging Face name and fp32 tensor, one after the other."""
        yield from _tensors(self.header, self.config)


def read_gguf(path: str | Path) -> GGUFModel:
    """Header, config and lazily dequantised tensors of a GGUF file, or of all parts of a split one.

    Raises ModelError: damaged file, unsupported architecture, missing or extra tensors.
    """
    header = read_parts(Path(path))
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelError(f"{path}: architecture {architecture!r} is not supported; supported are {', '.join(ARCHITECTURES)}")
    config = _config(header, ARCHITECTURES[architecture], architecture)
    _check_names(header, config)
    return GGUFModel(header=header, config=config)


def _config(header: Header, family: Family, architecture: str) -> ModelConfig:
    def integer(key: str, default: int | None = None, most: int = MAX_SIZE) -> int:
        name = f"{architecture}.{key}"
        return whole(header.metadata.get(name, default), f"{header.path}: metadata {name}", most)

    def number(key: str, default: float | None = None) -> float:
        value = header.metadata.get(f"{architecture}.{key}", default)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ModelError(f"{header.path}: metadata {architecture}.{key}: {value!r} is not a positive number")
        return float(value)

    width, heads = integer("embedding_length"), integer("attention.head_count")
    if "token_embd.weight" not in header.tensors:
        raise ModelError(f"{header.path}: tensor 'token_embd.weight' is missing")
    shared: dict[str, Any] = {
        "family": family,
        "vocab_size": header.tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "num_layers": integer("block_count", most=MAX_LAYERS),
        "num_heads": heads,
        "intermediate_size": integer("feed_forward_length"),
        "max_positions": integer("context_length"),
        "tie_embeddings": _tied(header),
    }
    if family == "gpt2":
        return ModelConfig(
            **shared,
            num_kv_heads=heads,
            head_dim=width // heads,
            norm="layer",
            norm_eps=_decimal(number("attention.layer_norm_epsilon")),
            positions="learned",
            mlp="gelu",
            qkv_bias=True,
            linear_bias=True,
        )
    config = ModelConfig(
        **shared,
        num_kv_heads=integer("attention.head_count_kv", heads),
        head_dim=integer("attention.key_length", width // heads),
        norm="rms_plus_one" if family == "gemma3" else "rms",
        norm_eps=_decimal(number("attention.layer_norm_rms_epsilon")),
        rope_theta=number("rope.freq_base", 1e6 if family == "gemma3" else 1e4),
        qkv_bias=family == "qwen2",
        qk_norm=family in ("qwen3", "gemma3"),
    )
    config = replace(config, rope_scaling=_scaling(header, architecture, config))
    return _gemma(config, integer("attention.sliding_window")) if family == "gemma3" else config


def _decimal(value: float) -> float:
    """1e-5 stored as fp32 comes back as 9.99999974e-06; the config gets the number that was meant."""
    return float(f"{value:.6g}")


def _gemma(config: ModelConfig, window: int) -> ModelConfig:
    # llama.cpp writes these four constants into its code, not into the file.
    scale_dim = config.hidden_size / config.num_heads if config.num_layers == 62 else config.head_dim
    return replace(
        config,
        mlp="geglu",
        post_norms=True,
        scale_embeddings=True,
        attention_scale=scale_dim**-0.5,
        rope_local_theta=10_000.0,
        sliding_window=window,
        local_layers=tuple(bool((n + 1) % 6) for n in range(config.num_layers)),
    )


def _scaling(header: Header, architecture: str, config: ModelConfig) -> RopeScaling | None:
    kind = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "linear":
        factor = header.metadata.get(f"{architecture}.rope.scaling.factor", 1.0)
        if not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise ModelError(f"{header.path}: metadata {architecture}.rope.scaling.factor: {factor!r} is no factor")
        return RopeScaling(kind="linear", factor=float(factor)) if factor != 1.0 else None
    if kind != "none":
        raise ModelError(f"{header.path}: rope scaling {kind!r} is not supported; linear and llama3 are")
    if "rope_freqs.weight" not in header.tensors:
        return None
    factors = dequantise(header, header.tensors["rope_freqs.weight"])
    for original in (8192, config.max_positions):
        scaling = RopeScaling(kind="llama3", factor=float(factors.max()), original_max_positions=original)
        expected = llama3_factors(replace(config, rope_scaling=scaling))
        if expected.shape == factors.shape and torch.allclose(expected, factors, rtol=1e-3):
            return scaling
    raise ModelError(f"{header.path}: rope_freqs.weight is not the frequency scaling of Llama 3")


def _tied(header: Header) -> bool:
    """Whether output and embedding are one matrix: no output, or (Qwen's small files) two roundings of the same."""
    if "output.weight" not in header.tensors:
        return True
    out, embed = header.tensors["output.weight"], header.tensors["token_embd.weight"]
    if out.shape != embed.shape:
        return False
    rows = min(256, out.shape[0])
    a, b = dequantise(header, out, rows).double(), dequantise(header, embed, rows).double()
    if out.kind in _UNQUANTISED and embed.kind in _UNQUANTISED:
        return out.kind == embed.kind and torch.equal(a, b)
    return float((a * b).sum() / (a.norm() * b.norm() + 1e-30)) > 0.99


def dequantise(header: Header, info: TensorInfo, rows: int | None = None) -> torch.Tensor:
    """One tensor (or its first `rows`) as fp32."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType(info.kind)
    per_row = info.num_bytes // info.shape[0]
    shape = info.shape if rows is None else (rows, *info.shape[1:])
    raw = np.fromfile(info.path, np.uint8, count=shape[0] * per_row, offset=info.start)
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        values = raw.view(np.float32 if kind == GGMLQuantizationType.F32 else np.float16).astype(np.float32)
    elif kind == GGMLQuantizationType.BF16:
        values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        try:
            values = dequantize(raw.reshape(-1, GGML_QUANT_SIZES[kind][1]), kind)
        except NotImplementedError:
            raise ModelError(f"{header.path}: tensor {info.name!r} has the unsupported type {kind.name}") from None
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32).reshape(shape))


def _bits_per_weight(info: TensorInfo) -> float:
    return info.num_bytes / float(np.prod(info.shape))


def _check_names(header: Header, config: ModelConfig) -> None:
    wanted = {gguf_name(config.family, name) for source in tensor_map(config).values() for name in source.names}
    missing = sorted(wanted - header.tensors.keys())
    if missing:
        raise ModelError(f"{header.path}: {len(missing)} tensors are missing, the first is {missing[0]!r}")
    for name in sorted(header.tensors.keys() - wanted - _IGNORED):
        if not (config.tie_embeddings and name == "output.weight"):
            raise ModelError(f"{header.path}: tensor {name!r} belongs to no part of a {config.family} model")


def _tensors(header: Header, config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    for source in tensor_map(config).values():
        for name in source.names:
            info = header.tensors[gguf_name(config.family, name)]
            if name.endswith(("embed_tokens.weight", "wte.weight")) and config.tie_embeddings:
                info = max(info, header.tensors.get("output.weight", info), key=_bits_per_weight)
            yield name, _from_gguf(config, name, dequantise(header, info), source.transposed)


def _from_gguf(config: ModelConfig, name: str, tensor: torch.Tensor, transposed: bool) -> torch.Tensor:
    if config.family == "llama" and "_proj." in name:
        if ".q_proj." in name:
            return unpermute(tensor, config.num_heads)
        if ".k_proj." in name:
            return unpermute(tensor, config.num_kv_heads)
    if config.norm == "rms_plus_one" and "norm." in name:
        return tensor - 1.0
    return tensor.t().contiguous() if transposed else tensor
