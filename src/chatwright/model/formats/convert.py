"""A GGUF file -> a Hugging Face folder in the cache, dequantised once.

Values are kept as fp32: a 4-bit block times its fp16 scale plus its fp16 minimum has more bits than bf16 or fp16 hold,
and the point of the conversion is that everybody computes with the same numbers. 135M parameters take 540 MB.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from chatwright.errors import HubError, ModelError
from chatwright.hub.store import (
    cache_folder,
    damage,
    disk_errors,
    locked,
    say,
    sha256,
    staging,
    write_manifest,
)
from chatwright.model.formats.gguf import GGUFModel, read_gguf
from chatwright.model.formats.gguf_header import split_parts
from chatwright.model.formats.gguf_tokenizer import stop_ids, write_tokenizer
from chatwright.model.formats.hf_config import config_to_hf
from chatwright.model.formats.huggingface import write_json, write_weights

_VERSION = 2  # raise it when the conversion changes: old results are then left aside
_SHARD_BYTES = 4_000_000_000


def ensure_hf_folder(resolved: str | Path) -> Path:
    """A folder in Hugging Face layout for what `hub.resolve` gave: a folder as it is, a GGUF file converted once.

    Raises ModelError for a file that cannot be read, HubError when the cache cannot be written.
    """
    resolved = Path(resolved)
    if resolved.is_dir():
        return resolved
    parts = split_parts(resolved)
    resolved = parts[0]
    digest = _digest(resolved) if len(parts) == 1 else _digest_of_parts(parts)
    folder = cache_folder() / "converted" / f"{resolved.stem}-{digest[:16]}-f32-v{_VERSION}"
    if _usable(folder):
        return folder
    with locked(folder.name):
        if not _usable(folder):
            if len(parts) == 1:
                _check_source(resolved, digest)
            model = read_gguf(resolved)
            with (
                staging(folder, num_bytes=4 * model.config.num_parameters()) as stage,
                disk_errors(folder.parent),
            ):
                _convert(model, stage, digest)
    return folder


def _digest(file: Path) -> str:
    """The hub keeps fetched files in folders named by their verified hash."""
    named = file.parent.name
    if file.parent.parent == cache_folder() / "files" and len(named) == 64:
        return named
    try:
        return sha256(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error


def _digest_of_parts(parts: Sequence[Path]) -> str:
    return hashlib.sha256("".join(_digest(part) for part in parts).encode()).hexdigest()


def _check_source(file: Path, digest: str) -> None:
    if sha256(file) != digest:
        file.unlink()
        raise HubError(f"{file}: damaged since it was fetched; it was removed. Run the command again.")


def _usable(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    wrong = damage(folder)
    if wrong is not None:
        say(f"{folder}: damaged ({wrong}); making it again")
    return wrong is None


def _convert(model: GGUFModel, stage: Path, digest: str) -> None:
    started = time.monotonic()
    say(f"converting {model.header.path.name} to fp32 safetensors (once)")
    write_tokenizer(model.header, stage)
    total = sum(info.num_bytes for info in model.header.tensors.values())
    state, seen = {}, 0
    for name, tensor in model.tensors():
        state[name] = tensor
        seen += tensor.numel()
        say(f"  {min(99, 100 * seen // model.config.num_parameters())} %", end="\r")
    write_weights(state, stage, _SHARD_BYTES)
    ids = {
        f"{ours}_token_id": token_id
        for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
        if isinstance(token_id := model.header.metadata.get(f"tokenizer.ggml.{theirs}_token_id"), int)
    }
    stops: dict[str, int | list[int]] = {**ids}
    if len(listed := stop_ids(model.header)) > 1:
        stops["eos_token_id"] = listed
    write_json(stage / "config.json", config_to_hf(model.config) | {"torch_dtype": "float32"} | stops)
    write_json(stage / "generation_config.json", stops)
    about = {
        "source": model.header.path.name,
        "source_sha256": digest,
        "licence": str(model.header.metadata.get("general.license", "not stated")),
        "note": "dequantised from a GGUF file: not the quality of the original checkpoint",
    }
    write_manifest(stage, about)
    say(f"converted {total / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
