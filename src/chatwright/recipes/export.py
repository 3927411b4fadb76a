"""`chatwright export`: a trained model as a Hugging Face folder or a GGUF file, with a model card and a manifest."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chatwright import hub
from chatwright.engine.checkpoint import atomic_folder
from chatwright.errors import ConfigError, ModelError
from chatwright.evals.model_card import licence_of, lineage, model_card
from chatwright.generation.lm import ADAPTER_CONFIG, load_model
from chatwright.hub import model_folder
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.embedding import HEAD_FILE as EMBEDDING_HEAD
from chatwright.model.formats.embedding import META_FILE as EMBEDDING_META
from chatwright.model.formats.embedding import has_embedding_head
from chatwright.model.formats.gguf_write import Kind, write_gguf
from chatwright.model.formats.huggingface import save_folder
from chatwright.model.formats.huggingface import stored_dtype as weights_dtype
from chatwright.model.formats.reward import HEAD_FILE
from chatwright.model.lora import merge
from chatwright.progress import console
from chatwright.text.tokenizer_folder import read_json

_VOCABULARIES = ("tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a model for other programs."""

    model: str
    """Run folder, model folder, or model name."""
    to: Literal["hf", "gguf"] = "hf"
    """Hugging Face folder (transformers, vLLM) or GGUF (llama.cpp)."""
    out: str
    """Folder to write; it must not exist yet, or be empty."""
    weights: Literal["keep", "f32", "f16", "bf16", "q8_0"] = "keep"
    """Number format of the matrices; keep: as they are stored. q8_0 is for GGUF only."""
    name: str = ""
    """Name of the model; empty: the name of --out."""
    licence: str = ""
    """Licence of the model; empty: that of the base model, as far as it states one."""


def main(cfg: ExportConfig) -> dict[str, Any]:
    """Write the folder; returns its path and its files. LoRA adapters are merged into the weights."""
    out = Path(cfg.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: exists already; choose another folder or remove it")
    if cfg.to == "hf" and cfg.weights == "q8_0":
        raise ConfigError("--weights q8_0 is for --to gguf; a Hugging Face folder takes keep, f32, f16 or bf16")
    name = cfg.name or out.name
    licence = cfg.licence or licence_of(lineage(cfg.model).base)
    with atomic_folder(out, {"kind": "export"}) as aside:
        file = _write_gguf(cfg, aside, name, licence) if cfg.to == "gguf" else _write_folder(cfg, aside)
        card = model_card(name, cfg.model, licence=licence, file=file)
        (aside / "README.md").write_text(card, encoding="utf-8")
        files = sorted(path.name for path in aside.iterdir())
    console().print(f"export: {out}: {', '.join(files)}")
    return {"out": str(out), "files": files}


def _write_folder(cfg: ExportConfig, folder: Path) -> str:
    source = model_folder(cfg.model)
    if (source / HEAD_FILE).is_file():
        _copy_reward_model(cfg, source, folder)
        return ""
    model, tokenizer = load_model(cfg.model, dtype=stored_dtype(cfg.model), device="cpu")
    merge(model)
    save_folder(model, folder, tokenizer, dtype=_DTYPES.get(cfg.weights))
    _copy_vocabulary(source, folder)
    if has_embedding_head(source):
        for name in (EMBEDDING_HEAD, EMBEDDING_META):
            shutil.copyfile(source / name, folder / name)
    return ""


def _copy_reward_model(cfg: ExportConfig, source: Path, folder: Path) -> None:
    """The head has a bias that no layout of transformers holds, so a reward model is passed on as it is."""
    if cfg.weights != "keep":
        raise ConfigError("--weights has no effect on a reward model: its folder is copied as it is")
    for path in source.iterdir():
        if path.is_file() and path.name != "MANIFEST.json":
            shutil.copyfile(path, folder / path.name)


def _write_gguf(cfg: ExportConfig, folder: Path, name: str, licence: str) -> str:
    if (model_folder(cfg.model) / HEAD_FILE).is_file():
        raise ModelError(f"{cfg.model}: is a reward model, which GGUF has no place for; use --to hf")
    if has_embedding_head(model_folder(cfg.model)):
        raise ModelError(f"{cfg.model}: has an embedding head, which GGUF has no place for; use --to hf")
    dtype = stored_dtype(cfg.model)
    model, tokenizer = load_model(cfg.model, dtype=dtype, device="cpu")
    merge(model)
    kept: dict[str, Kind] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    kind: Kind = kept[dtype] if cfg.weights == "keep" else cfg.weights
    with tempfile.TemporaryDirectory() as vocabulary:
        tokenizer.save(Path(vocabulary))
        write_gguf(model, folder / f"{name}-{kind}.gguf", vocabulary, kind, name=name, licence=licence or None)
    return f"{name}-{kind}.gguf"


def stored_dtype(model: str) -> str:
    """float32, float16 or bfloat16: how most weights of a model are stored. Of an adapter: those of its base model; of a
    GGUF file float32."""
    folder = model_folder(model)
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        return stored_dtype(str(read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path", "")))
    return weights_dtype(folder if folder.is_dir() else ensure_hf_folder(hub.resolve(model)))


def _copy_vocabulary(source: Path, folder: Path) -> None:
    """Vocabulary files of other libraries that came with the checkpoint (sentencepiece, vocab and merges)."""
    for name in _VOCABULARIES:
        if (source / name).is_file() and not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)
