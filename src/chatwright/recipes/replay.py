"""Replay text for ptx: what the base model writes by itself stands in for a pre-training corpus that is not at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.config import check_least
from chatwright.data.lm import document_start
from chatwright.engine.record import Record, model_source, open_output, record_of_file
from chatwright.errors import DataError
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.jsonl import check_writable
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.progress import ProgressBar, console
from chatwright.records import read_jsonl, write_jsonl


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Sample raw text from a model, from its start-of-document token (or, without one, its end-of-document token) on."""

    model: str = "smollm2-135m-instruct"
    """The model before any teaching."""
    out: str = "replay.jsonl"
    """File to write: {"text", "ids"} rows."""
    fresh: bool = False
    """Delete what is there and start anew; without it, an output of other inputs or settings is refused."""
    num_texts: int = 128
    """How many texts."""
    max_new_tokens: int = 128
    """Longest text in tokens."""
    seed: int = 0
    """Fixes the texts."""
    batch_size: int = 64
    """Texts written at once."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""

    def __post_init__(self) -> None:
        check_least(self, "", 1, "num_texts", "max_new_tokens", "batch_size")


def main(cfg: ReplayConfig) -> dict[str, Any]:
    """Write the file, unless it is there; returns its name and size in tokens."""
    out = Path(cfg.out)
    check_writable(out)
    record = Record.of("replay", cfg, {"model": model_source(cfg.model)})
    known = open_output(record, cfg, out, record_of_file(out), [out])
    if out.is_file():
        if not known:
            _check_settings(cfg)
        console().print(f"replay: {cfg.out} is there")
        return {"out": cfg.out}
    device = pick_device(cfg.device)
    model, tokenizer = load_model(cfg.model, dtype=pick_dtype(cfg.precision, device), device=device)
    generator = LocalGenerator(model, tokenizer, max_batch=cfg.batch_size)
    params = SamplingParams(max_new_tokens=cfg.max_new_tokens, temperature=1.0)
    seeds = [cfg.seed * 1_000_003 + i for i in range(cfg.num_texts)]
    with ProgressBar("replay", cfg.num_texts, unit="text") as bar:

        def progress(tokens: int, sequences: int) -> None:
            bar.advance(sequences - bar.done, tokens=tokens - bar.tokens)

        prompts = [document_start(tokenizer) or [tokenizer.document_end_id]] * cfg.num_texts
        texts = [row[0] for row in generator.generate(prompts, params, seeds=seeds, progress=progress)]
    kept = [text for text in texts if len(text.ids) > 1]
    source = {"source": f"sampled from {cfg.model}", "settings": _settings(cfg)}
    write_jsonl(cfg.out, [{"ids": list(t.ids), "text": t.text, **source} for t in kept])
    return {"out": cfg.out, "texts": len(kept), "tokens": sum(len(t.ids) for t in kept)}


def _settings(cfg: ReplayConfig) -> dict[str, Any]:
    """What the texts depend on; it stands in every row."""
    return {name: getattr(cfg, name) for name in ("model", "num_texts", "max_new_tokens", "seed")}


def _check_settings(cfg: ReplayConfig) -> None:
    """DataError when a file without a record was made with other settings."""
    _, row = next(iter(read_jsonl(cfg.out)), (1, {}))
    found = row.get("settings")
    was = found if isinstance(found, dict) else {}
    if changed := [name for name, value in _settings(cfg).items() if was.get(name) != value]:
        raise DataError.at(Path(cfg.out), 1, changed[0], "is of other settings; use another --out or remove the file")
