"""LoRA (Hu et al. 2021, arXiv 2106.09685) on the fused linears, in PEFT's file format.

A fused linear has named parts (q_proj, k_proj, v_proj; gate_proj, up_proj); each part may have an adapter of its own,
so adapters trained elsewhere on separate projections fit and those trained here fit elsewhere.
Shapes: I input features, O rows of one part, R rank.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from chatwright.errors import ModelError
from chatwright.model.formats.huggingface import tensor_map, write_json
from chatwright.model.transformer import Transformer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Settings of adapter_config.json that are used, or change nothing in what a finished adapter computes. Any other one must
# be off: unknown settings of newer PEFT versions are refused, not ignored.
_USED = frozenset({"peft_type", "r", "lora_alpha", "lora_dropout", "base_model_name_or_path"})
_WITHOUT_EFFECT = frozenset({
    "task_type", "auto_mapping", "peft_version", "revision", "inference_mode", "fan_in_fan_out", "megatron_core",
    "qalora_group_size", "ephemeral_gpu_offload", "runtime_config",
    # Which layers have an adapter: their tensors say it.
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
})  # fmt: skip
# These beginnings change the base weights too, so the adapter alone is not the model.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters on the linear layers of the blocks."""

    rank: int = 16
    """Rank R of each adapter."""
    alpha: float = 32.0
    """Adapters are multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapters' input while training."""
    targets: tuple[str, ...] = ()
    """Projections that get one, by their Hugging Face names (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
    down_proj; GPT-2: c_attn, c_proj, c_fc); empty: all."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0.0 <= self.dropout < 1.0:
            raise ModelError(
                f"lora: rank {self.rank} must be at least 1, alpha {self.alpha} above 0, dropout {self.dropout} in [0, 1)"
            )


@dataclass(frozen=True)
class Part:
    """A slice of output rows of a fused linear."""

    name: str
    """Module path in Hugging Face's model, e.g. `model.layers.0.self_attn.q_proj`."""
    rows: int
    """Output features O."""
    adapted: bool
    """Whether it has an adapter."""


class LoraLinear(nn.Module):
    """base(x) + alpha / rank * B A dropout(x), part by part. Adapters are fp32; `enabled = False` is the base alone."""

    def __init__(self, base: nn.Linear, parts: tuple[Part, ...], config: LoraConfig) -> None:
        super().__init__()
        self.base, self.parts, self.config = base, parts, config
        self.scale = config.alpha / config.rank
        self.enabled = True
        self.dropout = nn.Dropout(config.dropout)
        device, adapted = base.weight.device, [part for part in parts if part.adapted]
        self.lora_a_RI = nn.ParameterDict(
            {_key(p): torch.empty(config.rank, base.in_features, dtype=torch.float32, device=device) for p in adapted}
        )
        self.lora_b_OR = nn.ParameterDict(
            {_key(p): torch.zeros(p.rows, config.rank, dtype=torch.float32, device=device) for p in adapted}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., I] -> [..., sum of O]."""
        out: torch.Tensor = self.base(x)
        if not self.enabled:
            return out
        keys = [_key(part) for part in self.parts if part.adapted]
        stacked = torch.cat([self.lora_a_RI[key] for key in keys])
        low = F.linear(self.dropout(x).to(stacked.dtype), stacked) * self.scale
        lows = dict(zip(keys, low.split(self.config.rank, dim=-1), strict=True))
        pieces = []
        for part, piece in zip(self.parts, out.split([part.rows for part in self.parts], dim=-1), strict=True):
            if part.adapted:
                piece = piece + F.linear(lows[_key(part)], self.lora_b_OR[_key(part)]).to(piece.dtype)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def merged_weight(self) -> torch.Tensor:
        """The weight [sum of O, I] that acts alone as base and adapters do; the base's while they are off."""
        if not self.enabled:
            return self.base.weight.detach()
        merged = self.base.weight.detach().clone()
        for part, rows in zip(self.parts, merged.split([part.rows for part in self.parts]), strict=True):
            if part.adapted:
                delta = self.scale * (self.lora_b_OR[_key(part)] @ self.lora_a_RI[_key(part)])
                rows.copy_(rows.float() + delta)
        return merged


def _key(part: Part) -> str:
    return part.name.rpartition(".")[2]


def inject(model: Transformer, config: LoraConfig, *, seed: int = 0) -> None:
    """Freeze `model` and put adapters on its targets, in place. A is uniform in +-1/sqrt(I) as in PEFT, B is 0.

    Raises ModelError when a target names no projection of this family, or the model has adapters already.
    """
    if any(True for _ in adapters(model)):
        raise ModelError("lora: the model has adapters already; merge them first")
    found = _linears(model)
    known = sorted({part.rpartition(".")[2] for parts in found.values() for part, _ in parts})
    unknown = sorted(set(config.targets) - set(known))
    if unknown:
        raise ModelError(f"lora: target {unknown[0]!r} is no projection of {model.config.family}; it has {', '.join(known)}")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for path, rows in found.items():
        wanted = config.targets or known
        parts = tuple(Part(name, num, name.rpartition(".")[2] in wanted) for name, num in rows)
        if any(part.adapted for part in parts):
            parent, _, child = path.rpartition(".")
            base = model.get_submodule(path)
            assert isinstance(base, nn.Linear)
            layer = LoraLinear(base, parts, config).train(model.training)
            _fill(layer, generator)
            setattr(model.get_submodule(parent), child, layer)


@torch.no_grad()
def _fill(layer: LoraLinear, generator: torch.Generator) -> None:
    for weight in layer.lora_a_RI.values():
        bound = weight.shape[1] ** -0.5
        weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)


def _linears(model: Transformer) -> dict[str, list[tuple[str, int]]]:
    """Path of each linear of the blocks -> its parts as (Hugging Face path, rows)."""
    found = {}
    for ours, source in tensor_map(model.config).items():
        path, _, kind = ours.rpartition(".")
        if kind == "weight" and isinstance(model.get_submodule(path), nn.Linear) and path.startswith("blocks."):
            names = [name.removesuffix(".weight") for name in source.names]
            found[path] = list(zip(names, source.rows, strict=True))
    return found


def adapters(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """(path, layer) of every adapted linear."""
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield path, module


@contextlib.contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within, the model is its base, bit for bit: the reference model at no cost in memory."""
    layers = [(layer, layer.enabled) for _, layer in adapters(model)]
    for layer, _ in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, before in layers:
            layer.enabled = before


def merge(model: nn.Module) -> None:
    """Add all adapters to the weights and remove them, in place. What was frozen stays frozen."""
    for path, layer in list(adapters(model)):
        layer.enabled = True
        with torch.no_grad():
            layer.base.weight.copy_(layer.merged_weight())
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.base)


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """PEFT's tensor names -> adapter weights (live, not copied)."""
    state: dict[str, torch.Tensor] = {}
    for _, layer in adapters(model):
        for part in layer.parts:
            if part.adapted:
                state[f"{_PREFIX}{part.name}.lora_A.weight"] = layer.lora_a_RI[_key(part)]
                state[f"{_PREFIX}{part.name}.lora_B.weight"] = layer.lora_b_OR[_key(part)]
    return state


def save_adapter(model: Transformer, folder: str | Path, *, base: str = "") -> None:
    """Write adapter_config.json and adapter_model.safetensors as `peft` does. `base` names the base model."""
    folder = Path(folder)
    layers = [layer for _, layer in adapters(model)]
    if not layers:
        raise ModelError("lora: the model has no adapters to save")
    config = layers[0].config
    targets = sorted({_key(part) for layer in layers for part in layer.parts if part.adapted})
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_state(model).items()}
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": model.config.family == "gpt2",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, content)


def load_adapter(model: Transformer, folder: str | Path) -> LoraConfig:
    """Put the adapter of a PEFT folder on `model` in place. Raises ModelError for what does not fit."""
    folder = Path(folder)
    raw = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be read as safetensors: {error}") from error
    targets = sorted({name.rsplit(".", 3)[-3] for name in tensors if name.count(".") > 3})
    try:
        config = LoraConfig(
            rank=int(raw["r"]),
            alpha=float(raw["lora_alpha"]),
            dropout=float(raw.get("lora_dropout", 0.0)),
            targets=tuple(targets),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG}: r and lora_alpha must be numbers: {error}") from error
    inject(model, config)
    try:
        _load_state(model, tensors, folder / WEIGHTS)
    except ModelError:
        _remove(model)
        raise
    return config


def _read_config(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("peft_type") != "LORA":
        raise ModelError(f"{file}: peft_type is not LORA; only LoRA adapters are supported")
    if raw.get("bias") not in (None, "none"):
        raise ModelError(f"{file}: bias: {raw['bias']!r} is not supported; only none is")
    start = raw.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"{file}: init_lora_weights: {start!r} changed the base weights too; convert the adapter to a plain LoRA first "
            "(PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
        )
    for key, value in raw.items():
        if value and key not in _USED | _WITHOUT_EFFECT | {"bias", "init_lora_weights"}:
            shown = str(value)[:200]
            raise ModelError(f"{file}: {key}: {shown!r} is not supported; an adapter may only use plain LoRA settings")
    return raw


@torch.no_grad()
def _load_state(model: Transformer, tensors: dict[str, torch.Tensor], file: Path) -> None:
    state = adapter_state(model)
    for name in sorted(state.keys() - tensors.keys()):
        raise ModelError(f"{file}: tensor {name!r} is missing; adapters on some layers only are not supported")
    for name, tensor in tensors.items():
        if name not in state:
            raise ModelError(f"{file}: tensor {name!r} fits no projection of this {model.config.family} model")
        if tensor.shape != state[name].shape:
            raise ModelError(f"{file}: tensor {name!r} is {list(tensor.shape)}, the model asks {list(state[name].shape)}")
        state[name].copy_(tensor)


def _remove(model: nn.Module) -> None:
    for path, layer in list(adapters(model)):
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.base)
