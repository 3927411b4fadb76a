"""Hugging Face folders: config.json, safetensors (sharded or not) and tokenizer files, in and out.

Every tensor of ours is one or more of theirs stacked by rows; the table is written once, in `tensor_map`, and read in
both directions. Import then export gives back the same bits.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from chatwright.errors import ModelError
from chatwright.model.config import ModelConfig
from chatwright.model.formats.hf_config import config_from_hf, config_to_hf
from chatwright.model.transformer import Transformer

_KINDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_IGNORED_ENDINGS = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")  # buffers of old exports
_IGNORED_PARTS = ("vision_tower.", "multi_modal_projector.")  # the picture half of Gemma 3


class SavesTokenizer(Protocol):
    """What `save_folder` asks of a tokenizer (`chatwright.text.tokenizer.Tokenizer` has it)."""

    @property
    def bos_id(self) -> int | None:
        """Id put before a text, if any."""

    @property
    def eos_id(self) -> int:
        """Id that ends a text."""

    @property
    def pad_id(self) -> int:
        """Id that fills up rows."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""

    @property
    def generation(self) -> Mapping[str, Any]:
        """Settings of generation_config.json that came with the checkpoint, without its token ids."""

    def pinned(self) -> SavesTokenizer:
        """The tokenizer whose files say which settings of the chat template a model was trained with."""

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and what belongs to it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """How one of our parameters is stored in a Hugging Face checkpoint."""

    names: tuple[str, ...]
    """Their tensors, stacked by rows into ours."""
    rows: tuple[int, ...]
    """Rows of each."""
    transposed: bool = False
    """Stored as [in, out] (GPT-2's Conv1D)."""


def tensor_map(config: ModelConfig) -> dict[str, Source]:
    """Our parameter names -> their tensors, for the whole model."""
    entries: dict[str, Source] = {}
    block = _gpt2_block if config.family == "gpt2" else _llama_block
    d, v = config.hidden_size, config.vocab_size
    gpt2 = config.family == "gpt2"
    entries["embed.weight"] = _one("transformer.wte.weight" if gpt2 else "model.embed_tokens.weight", v)
    if config.positions == "learned":
        entries["position_embed.weight"] = _one("transformer.wpe.weight", config.max_positions)
    for n in range(config.num_layers):
        entries |= {f"blocks.{n}.{ours}": source for ours, source in block(config, n).items()}
    for part in ("weight", "bias") if config.norm == "layer" else ("weight",):
        entries[f"final_norm.{part}"] = _one(f"{'transformer.ln_f' if gpt2 else 'model.norm'}.{part}", d)
    if not config.tie_embeddings:
        entries["head.weight"] = _one("lm_head.weight", v)
    return entries


def _one(name: str, rows: int, transposed: bool = False) -> Source:
    return Source(names=(name,), rows=(rows,), transposed=transposed)


def _llama_block(config: ModelConfig, layer: int) -> dict[str, Source]:
    base = f"model.layers.{layer}"
    d, f, c = config.hidden_size, config.intermediate_size, config.head_dim
    qkv_rows = (config.num_heads * c, config.num_kv_heads * c, config.num_kv_heads * c)
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if config.post_norms:
        norms = {
            "attention_norm": "input_layernorm",
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    entries = {f"{ours}.weight": _one(f"{base}.{theirs}.weight", d) for ours, theirs in norms.items()}
    for part in ("weight", "bias") if config.qkv_bias else ("weight",):
        names = tuple(f"{base}.self_attn.{x}_proj.{part}" for x in "qkv")
        entries[f"attention.qkv.{part}"] = Source(names=names, rows=qkv_rows)
    entries["attention.out.weight"] = _one(f"{base}.self_attn.o_proj.weight", d)
    if config.qk_norm:
        entries["attention.q_norm.weight"] = _one(f"{base}.self_attn.q_norm.weight", c)
        entries["attention.k_norm.weight"] = _one(f"{base}.self_attn.k_norm.weight", c)
    gate_up = (f"{base}.mlp.gate_proj.weight", f"{base}.mlp.up_proj.weight")
    entries["mlp.up.weight"] = Source(names=gate_up, rows=(f, f))
    entries["mlp.down.weight"] = _one(f"{base}.mlp.down_proj.weight", d)
    return entries


def _gpt2_block(config: ModelConfig, layer: int) -> dict[str, Source]:
    base, d, f = f"transformer.h.{layer}", config.hidden_size, config.intermediate_size
    linears = {
        "attention.qkv": ("attn.c_attn", config.qkv_size),
        "attention.out": ("attn.c_proj", d),
        "mlp.up": ("mlp.c_fc", f),
        "mlp.down": ("mlp.c_proj", d),
    }
    entries: dict[str, Source] = {}
    for ours, (theirs, rows) in linears.items():
        entries[f"{ours}.weight"] = _one(f"{base}.{theirs}.weight", rows, transposed=True)
        entries[f"{ours}.bias"] = _one(f"{base}.{theirs}.bias", rows)
    for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
        for part in ("weight", "bias"):
            entries[f"{ours}.{part}"] = _one(f"{base}.{theirs}.{part}", d)
    return entries


def load_folder(
    path: str | Path, dtype: torch.dtype | str = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """The model in a Hugging Face folder, in `dtype` on `device`, in eval mode.

    Raises ModelError: no such file, unsupported architecture or setting, missing, extra or misshapen tensors.
    """
    path, dtype = Path(path), as_dtype(dtype)
    config = read_config(path)
    with ExitStack() as stack:
        tensors = _open_tensors(path, stack)
        state = _import_state(config, tensors, dtype, torch.device(device))
    return build(config, state)


def build(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> Transformer:
    """A Transformer around ready tensors (they become its parameters without a copy), in eval mode."""
    with torch.device("meta"):
        model = Transformer(config)
    model.load_state_dict(dict(state), strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """torch.float32 for "float32", and so on. Raises ModelError for a name that is not a floating dtype."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"dtype {dtype!r} is not a floating point type; use float32, bfloat16 or float16")
    return found


def read_config(path: Path) -> ModelConfig:
    """ModelConfig of a Hugging Face folder."""
    file = path / "config.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no config.json there; give a folder in Hugging Face layout") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{file}: holds no JSON object")
    return config_from_hf(raw, str(file))


class _Handle(Protocol):
    def get_tensor(self, name: str) -> torch.Tensor: ...


def stored_dtype(path: Path) -> str:
    """float32, float16 or bfloat16: the number format of most weights in a folder; float32 for anything else."""
    sizes: dict[str, int] = {}
    for file in _weight_files(path):
        try:
            with safe_open(str(file), framework="pt", device="cpu") as handle:
                for name in handle.keys():  # noqa: SIM118 - the handle is no dict
                    part = handle.get_slice(name)
                    kind = _KINDS.get(part.get_dtype(), "float32")
                    sizes[kind] = sizes.get(kind, 0) + math.prod(part.get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: cannot be read as safetensors: {error}") from error
    return max(sizes, key=lambda kind: sizes[kind], default="float32")


def _open_tensors(path: Path, stack: ExitStack) -> dict[str, tuple[Path, _Handle]]:
    """Tensor name -> (file, open handle) over all shards of the folder."""
    tensors: dict[str, tuple[Path, _Handle]] = {}
    for file in _weight_files(path):
        try:
            handle = stack.enter_context(safe_open(str(file), framework="pt", device="cpu"))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: cannot be read as safetensors: {error}") from error
        for name in handle.keys():  # noqa: SIM118 - the handle is no dict
            ours = canonical(name)
            if ours in tensors:
                raise ModelError(f"{file}: tensor {name!r} is also in {tensors[ours][0].name}")
            tensors[ours] = (file, handle) if ours == name else (file, _Renamed(handle, name))
    return tensors


@dataclass(frozen=True)
class _Renamed:
    handle: _Handle
    name: str

    def get_tensor(self, name: str) -> torch.Tensor:
        return self.handle.get_tensor(self.name)


# What wrappers put before every name: DDP, torch.compile, PEFT, and models that hold the decoder as a part.
_WRAPPERS = ("module.", "_orig_mod.", "base_model.model.")
_DECODERS = ("language_model.model.", "model.language_model.", "model.text_model.", "text_model.", "language_model.")
_LLAMA_PARTS = ("embed_tokens.", "layers.", "norm.")
_GPT2_PARTS = ("wte.", "wpe.", "h.", "ln_f.")


def canonical(name: str) -> str:
    """The name of a tensor as a plain decoder's checkpoint has it, without the prefixes that others put before it."""
    while name.startswith(_WRAPPERS):
        name = name.removeprefix(next(wrapper for wrapper in _WRAPPERS if name.startswith(wrapper)))
    for prefix in _DECODERS:
        rest = name.removeprefix(prefix)
        if rest != name:
            return rest if rest.startswith("lm_head.") else canonical(rest)
    rest = name.removeprefix("transformer.")
    if rest.startswith(_LLAMA_PARTS):
        return "model." + rest
    if rest.startswith(_GPT2_PARTS):
        return "transformer." + rest
    return rest if rest.startswith("lm_head.") else name


def _weight_files(path: Path) -> list[Path]:
    index = path / INDEX
    if (path / WEIGHTS).is_file() and not index.is_file():
        return [path / WEIGHTS]
    if not index.is_file():
        pickled = "; pickled weights (.bin) are not read, convert them first" if any(path.glob("*.bin")) else ""
        raise ModelError(f"{path}: neither {WEIGHTS} nor {INDEX} there{pickled}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index}: no usable weight_map: {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: {name!r} is not the name of a safetensors file beside it")
        if not (path / name).is_file():
            raise ModelError(f"{path / name}: missing, although {INDEX} names it")
    return [path / name for name in names]


def _import_state(
    config: ModelConfig, tensors: Mapping[str, tuple[Path, _Handle]], dtype: torch.dtype, device: torch.device
) -> dict[str, torch.Tensor]:
    shapes = _shapes(config)
    sources = tensor_map(config)
    _check_names(config, sources, tensors)
    state: dict[str, torch.Tensor] = {}
    for ours, source in sources.items():
        full = torch.empty(shapes[ours], dtype=dtype)
        start = 0
        for name, rows in zip(source.names, source.rows, strict=True):
            file, handle = tensors[name]
            try:
                theirs = handle.get_tensor(name)
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file}: tensor {name!r} cannot be read: {error}") from error
            theirs = theirs.t() if source.transposed and theirs.dim() == 2 else theirs
            part = full[start : start + rows]
            if theirs.shape != part.shape or not theirs.is_floating_point():
                stored = list(theirs.shape)
                raise ModelError(
                    f"{file}: tensor {name!r} is {stored} {theirs.dtype}, config.json asks for {list(part.shape)}"
                )
            part.copy_(theirs)
            start += rows
        state[ours] = full.to(device)
    if config.tie_embeddings and "lm_head.weight" in tensors:
        _compare_heads(tensors, sources["embed.weight"].names[0])
    return state


def _compare_heads(tensors: Mapping[str, tuple[Path, _Handle]], embedding: str) -> None:
    """Say it when a checkpoint holds an output matrix that config.json tells to leave out (transformers does so too)."""
    file, handle = tensors["lm_head.weight"]
    if not torch.equal(handle.get_tensor("lm_head.weight"), tensors[embedding][1].get_tensor(embedding)):
        print(
            f"warning: {file}: lm_head.weight differs from {embedding}, but config.json ties the two "
            "(tie_word_embeddings), so lm_head.weight is not used. If it was trained, set tie_word_embeddings to false",
            file=sys.stderr,
        )


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: p.shape for name, p in Transformer(config).named_parameters()}


def _check_names(config: ModelConfig, sources: Mapping[str, Source], tensors: Mapping[str, tuple[Path, _Handle]]) -> None:
    wanted = {name for source in sources.values() for name in source.names}
    missing = sorted(wanted - tensors.keys())
    if missing:
        folder = next(iter(tensors.values()))[0].parent if tensors else "the folder"
        extra = sorted(tensors.keys() - wanted)[:3]
        there = f"; the files hold others that a {config.family} model lacks: {', '.join(extra)}" if extra else ""
        raise ModelError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]!r}{there}")
    tied = {"lm_head.weight"} if config.tie_embeddings else set()
    for name in sorted(tensors.keys() - wanted - tied):
        if not name.endswith(_IGNORED_ENDINGS) and not any(part in name for part in _IGNORED_PARTS):
            raise ModelError(f"{tensors[name][0]}: tensor {name!r} belongs to no part of a {config.family} model")


def export_state(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our state dict -> theirs, contiguous on the CPU."""
    theirs: dict[str, torch.Tensor] = {}
    if any(".lora_" in name for name in state):
        raise ModelError("the model has LoRA adapters; merge them before export (lora.merge)")
    for ours, source in tensor_map(config).items():
        parts = state[ours].detach().split(list(source.rows))
        for name, part in zip(source.names, parts, strict=True):
            theirs[name] = (part.t() if source.transposed else part).contiguous().cpu().clone()
    return theirs


def save_folder(
    model: Transformer,
    folder: str | Path,
    tokenizer: SavesTokenizer | None = None,
    extra_config: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | str | None = None,
    max_shard_bytes: int = 4_000_000_000,
) -> None:
    """Write config.json, safetensors and the tokenizer's files, as transformers and llama.cpp read them.

    `dtype` None keeps the model's. Files are written into `folder` one by one and flushed to disk; whoever needs the
    folder to appear at once renames it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = export_state(model.config, model.state_dict())
    if dtype is not None:
        state = {name: tensor.to(as_dtype(dtype)) for name, tensor in state.items()}
    stored = str(next(iter(state.values())).dtype).removeprefix("torch.")
    raw = config_to_hf(model.config) | {"torch_dtype": stored} | _token_ids(tokenizer) | dict(extra_config or {})
    write_weights(state, folder, max_shard_bytes)
    write_json(folder / "config.json", raw)
    if tokenizer is not None:
        write_json(folder / "generation_config.json", {**tokenizer.generation, **_token_ids(tokenizer)})
        tokenizer.save(folder)


def _token_ids(tokenizer: SavesTokenizer | None) -> dict[str, Any]:
    if tokenizer is None:
        return {}
    stops = sorted(tokenizer.stop_ids | {tokenizer.eos_id})
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": tokenizer.pad_id,
    }
    return {key: value for key, value in ids.items() if value is not None}


def write_weights(state: Mapping[str, torch.Tensor], folder: Path, max_shard_bytes: int) -> None:
    """model.safetensors, or shards and their index when the tensors take more than `max_shard_bytes`.

    Weights that lie in the folder under such names are removed: a reader must not find two models.
    """
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for name, tensor in state.items():
        size = tensor.numel() * tensor.element_size()
        if used and used + size > max_shard_bytes:
            shards.append({})
            used = 0
        shards[-1][name] = tensor
        used += size
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for stale in (*folder.glob("model-*-of-*.safetensors"), folder / WEIGHTS, folder / INDEX):
        stale.unlink(missing_ok=True)
    for name, shard in zip(names, shards, strict=True):
        try:
            save_file(shard, str(folder / name), metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, too, comes as this
            raise ModelError(f"{folder / name}: cannot be written: {error}") from error
        _sync(folder / name)
    if len(shards) > 1:
        total = sum(t.numel() * t.element_size() for t in state.values())
        where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Indented JSON, flushed to disk."""
    with open(file, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2, ensure_ascii=False)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())


def _sync(file: Path) -> None:
    with open(file, "rb") as done:
        os.fsync(done.fileno())
