"""Sample K answers per prompt for people (or a simulated labeller) to rank: JSON lines of {messages, completions, ...}.

Chunks are appended as they finish; the same command again continues after the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.config import check_above, check_least, check_share
from chatwright.data.answer_file import append_rows, whole_rows
from chatwright.engine.record import Record, files, model_source, open_output, record_of_file
from chatwright.errors import ConfigError, DataError
from chatwright.generation.answers import check_room, sample_answers
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.lm import load_model
from chatwright.generation.local import LocalGenerator
from chatwright.jsonl import check_writable
from chatwright.model.precision import DeviceName, Precision, pick_device, pick_dtype
from chatwright.progress import console
from chatwright.records import Prompt, load_prompts

_CHUNK_PROMPTS = 120  # between two writes: large enough that the batch stays full, small enough to lose little


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Sample answers to prompts."""

    model: str = "smollm2-135m-instruct"
    """Named model, Hugging Face name, or folder."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    data: tuple[str, ...]
    """JSON-lines files of prompts."""
    out: str = "samples.jsonl"
    """File to write; an unfinished one is continued."""
    fresh: bool = False
    """Delete what is there and start anew; without it, an output of other inputs or settings is refused."""
    n: int = 4
    """Answers per prompt, 1 to 9 (rankings take 2 to 9)."""
    max_new_tokens: int = 128
    """Longest answer in tokens."""
    temperature: float = 1.0
    """0: greedy."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Keep the likeliest tokens up to this probability."""
    seed: int = 0
    """Every answer's randomness follows from this and its place."""
    batch_size: int = 128
    """Answers written at once."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format."""

    def __post_init__(self) -> None:
        check_least(self, "", 1, "n", "max_new_tokens", "batch_size")
        check_least(self, "", 0, "temperature")
        check_least(self, "", 0, "top_k")
        check_above(self, "", 0, "top_p")
        check_share(self, "", "top_p")


def to_row(prompt: Prompt, answers: Sequence[Completion], model: str, cfg: SampleConfig) -> dict[str, Any]:
    """One JSON row: the prompt, its answers, and why each one finished."""
    return {
        **prompt.to_dict(),
        "completions": [a.text for a in answers],
        "finish_reason": [a.finish_reason for a in answers],
        "model": model,
        "temperature": cfg.temperature,
        "seed": cfg.seed,
    }


def main(cfg: SampleConfig) -> dict[str, Any]:
    """Write one row per prompt; returns counts."""
    if not 1 <= cfg.n <= 9:
        raise ConfigError(f"--n {cfg.n}: between 1 and 9 answers per prompt can be sampled")
    prompts = load_prompts(cfg.data)
    out = Path(cfg.out)
    check_writable(out)
    record = Record.of("sample", cfg, {"data": files(cfg.data), "model": model_source(cfg.model)})
    known = open_output(record, cfg, out, record_of_file(out), [out])
    done = _rows_done(out, None if known else prompts, cfg)
    record.write(record_of_file(out))
    result = {"prompts": len(prompts), "answers": len(prompts) * cfg.n, "out": cfg.out}
    if done >= len(prompts):
        console().print(f"sample: {cfg.out} is complete ({done} prompts)")
        return result
    device = pick_device(cfg.device)
    model, tokenizer = load_model(cfg.model, dtype=pick_dtype(cfg.precision, device), device=device, template=cfg.template)
    generator = LocalGenerator(model, tokenizer, max_batch=cfg.batch_size)
    params = SamplingParams(
        max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature, top_k=cfg.top_k, top_p=cfg.top_p
    )
    check_room(prompts, tokenizer, model.config.max_positions, cfg.max_new_tokens, f"--data {' '.join(cfg.data)}")
    for start in range(done, len(prompts), _CHUNK_PROMPTS):
        chunk = prompts[start : start + _CHUNK_PROMPTS]
        title = f"sample {start + len(chunk)}/{len(prompts)}"
        answers = sample_answers(generator, tokenizer, chunk, params, n=cfg.n, seed=cfg.seed, title=title, first=start)
        rows = [to_row(p, a, cfg.model, cfg) for p, a in zip(chunk, answers, strict=True)]
        append_rows(out, rows)
    console().print(f"sample: {len(prompts)} prompts x {cfg.n} answers -> {cfg.out}")
    return result


def _rows_done(path: Path, prompts: Sequence[Prompt] | None, cfg: SampleConfig) -> int:
    """Whole rows already in the file. Those of a file without a record must belong to these prompts and settings; None:
    there is a record, and it was compared."""
    rows = whole_rows(path)
    for number, (row, prompt) in enumerate(zip(rows, prompts or (), strict=False), start=1):
        if row.get("messages") != [m.to_dict() for m in prompt.messages]:
            raise DataError.at(path, number, "messages", "belongs to other prompts; use another --out or remove the file")
        was = {"n": len(row.get("completions", ())), **{name: row.get(name) for name in ("model", "temperature", "seed")}}
        if changed := [name for name, value in was.items() if value != getattr(cfg, name)]:
            raise DataError.at(path, number, changed[0], "is of another run; use another --out or remove the file")
    return len(rows)
