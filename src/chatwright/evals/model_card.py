"""The README.md of an exported model: licence, base, data, share of simulated labels, figures, limits.

Everything in it is read from what the runs have written (result.json, report.json) and from the data files themselves,
followed back from run to run: policy -> SFT model and reward model -> base.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatwright.engine.checkpoint import file_sha256
from chatwright.errors import ConfigError
from chatwright.evals.report_words import judge_notes, score_judge
from chatwright.hub import is_name, model_folder
from chatwright.hub.named import NAMED, NamedModel
from chatwright.hub.run_folders import FINAL
from chatwright.jsonl import read_lines

_STAGE_WORDS = {
    "sft": "supervised fine-tuning on demonstrations",
    "reward": "reward model trained on rankings",
    "ppo": "PPO against the reward model",
    "dpo": "direct preference optimisation on rankings",
}
_FIGURE_WORDS = {
    "gold_mean": "mean score",
    "fk_grade": "Flesch-Kincaid grade",
    "words_mean": "words per answer",
    "ended_share": "answers that end by themselves",
    "distinct_2": "distinct-2",
    "kl_nats_per_token": "KL to SFT (nats per token)",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One finished run on the way to a model."""

    folder: Path
    kind: str
    result: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file that a stage was trained on."""

    name: str
    sha256: str
    rows: int | None
    """None when the file is no longer there, or is no longer the same."""
    labellers: Mapping[str, int]
    """Rankings by kind of labeller: human, simulated, ai, or "not stated"."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a model comes from."""

    base: str
    """The model everything began with: a name, or a folder."""
    stages: tuple[Stage, ...]
    """Oldest first; the last one wrote the model."""


def run_of(model: str | Path) -> Path | None:
    """The finished run that wrote `model` (a run folder, its final/, a chain of runs); None for any other model."""
    if not str(model):
        return None
    for path in (Path(model), model_folder(model)):
        for folder in (path, path.parent) if path.name == FINAL else (path,):
            if (folder / "result.json").is_file():
                return folder
    return None


def lineage(model: str | Path) -> Lineage:
    """Follow the runs back from `model`. ConfigError when a result.json cannot be read."""
    stages: dict[Path, Stage] = {}
    open_runs: set[Path] = set()  # a folder that was moved may seem to be its own origin

    def follow(source: str | Path) -> str:
        folder = run_of(source)
        if folder is None or folder.resolve() in open_runs:
            return str(source)
        if folder in stages:
            return follow(str(stages[folder].result.get("model", "")))
        open_runs.add(folder.resolve())
        result = _read(folder / "result.json")
        base = follow(str(result.get("model", "")))
        for reward in result.get("reward", []):
            follow(str(reward).rpartition("*")[2])
        open_runs.remove(folder.resolve())
        stages[folder] = Stage(folder=folder, kind=str(result.get("kind", "run")), result=result)
        return base

    base = follow(model)
    return Lineage(base=base, stages=tuple(stages.values()))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = f"`chatwright verify {path.parent}` checks the run"
        raise ConfigError(f"{path}: cannot be read ({error}); {hint}") from None
    return value if isinstance(value, dict) else {}


def data_files(stage: Stage) -> Iterator[DataFile]:
    """The files of a stage, counted anew where they are still what they were."""
    for name, digest in dict(stage.result.get("data", {})).items():
        path = Path(name)
        rows: int | None = None
        labellers: Counter[str] = Counter()
        if path.is_file() and file_sha256(path) == digest:
            rows = 0
            for _, row in read_lines(path):
                rows += 1
                if isinstance(row, dict) and "ranking" in row:
                    labellers[str(row.get("labeller_kind") or "not stated")] += 1
        yield DataFile(name=_public_name(path), sha256=str(digest), rows=rows, labellers=labellers)


def _public_name(path: Path) -> str:
    """A name without the folders of this machine."""
    return "/".join(path.parts[-3:]) if path.is_absolute() else path.as_posix()


def licence_of(base: str) -> str:
    """Licence of the base model as far as it says one; "" when it does not."""
    if base in NAMED:
        return NAMED[base].licence
    card = Path(base) / "README.md"
    if card.is_file():
        found = re.search(r"^license:\s*(\S.*)$", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return found.group(1).strip(" '\"") if found else ""
    return ""


def find_report(stages: Sequence[Stage]) -> tuple[str, dict[str, Any]] | None:
    """(which of its models this is, report.json) where a report beside the last run, or above it, names this model."""
    if not stages:
        return None
    run = stages[-1].folder.resolve()
    for folder in (run, run.parent, run.parent.parent):
        if (folder / "report.json").is_file():
            report = _read(folder / "report.json")
            for name, model in report.get("models", {}).items():
                place = Path(str(model.get("path", "")))
                if any((root / place).resolve() in (run, run / "final") for root in (Path(), folder)):
                    return name, report
    return None


# ---- the page --------------------------------------------------------------------------------------------------------


def model_card(name: str, model: str | Path, *, licence: str, file: str = "") -> str:
    """README.md for `model`, exported as `name`; `licence` as the user or the base states it, `file` a GGUF's name."""
    origin = lineage(model)
    known = NAMED.get(origin.base)
    base = known.name if known else _public_name(Path(origin.base)) if origin.base else ""
    files = [(stage, list(data_files(stage))) for stage in origin.stages]
    parts = [
        _front_matter(known.repository if known else origin.base, licence),
        f"# {name}",
        (f"Made from **{base}** with Chatwright." if base else "Trained from raw text with Chatwright.")
        + (f" {known.parameters} parameters. {known.languages}." if known else ""),
        f"## Licence\n\n{licence or 'Not stated by the base model: find out before you pass this model on.'}",
        _training(files),
        _labels(files),
        _figures(origin.stages),
        _limits(known, files),
        _use(name, file),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(base: str, licence: str) -> str:
    """`base_model` is a repository of the Hugging Face Hub: a folder's name would point to another's model there."""
    tag = licence.lower() if re.fullmatch(r"[A-Za-z0-9.+-]+", licence) else "other"
    line = f"base_model: {base.partition('@')[0]}\n" if is_name(base) and not Path(base).exists() else ""
    return f"---\nlicense: {tag}\n{line}tags: [chatwright, rlhf]\n---"


def _training(files: Sequence[tuple[Stage, Sequence[DataFile]]]) -> str:
    if not files:
        return "## Training\n\nNot trained here: converted from the base model as it was."
    lines = ["## Training", ""]
    for stage, found in files:
        words = _STAGE_WORDS.get(stage.kind, stage.kind)
        lines.append(f"- **{words}**" + (f", {stage.result['steps']} steps" if "steps" in stage.result else ""))
        for file in found:
            rows = "no longer at hand when this was written" if file.rows is None else f"{file.rows} rows"
            lines.append(f"  - `{file.name}`: {rows}, sha256 `{file.sha256}`")
    return "\n".join(lines)


def _labels(files: Sequence[tuple[Stage, Sequence[DataFile]]]) -> str:
    counts: Counter[str] = Counter()
    for _, found in files:
        for file in found:
            counts.update(file.labellers)
    total = sum(counts.values())
    if total:
        kinds = ", ".join(f"{count} {kind} ({count / total:.0%})" for kind, count in counts.most_common())
        share = counts["simulated"] / total
        return f"## Labels\n\n{total} rankings: {kinds}. **Share of simulated labels: {share:.0%}.**"
    shares = [stage.result["simulated_share"] for stage, _ in files if "simulated_share" in stage.result]
    if shares:
        return f"## Labels\n\n**Share of simulated labels: {max(shares):.0%}**, as the training run recorded it."
    return "## Labels\n\nNo rankings were used." if files else ""


def _figures(stages: Sequence[Stage]) -> str:
    found = find_report(stages)
    if found is None:
        numbers = [
            (key, value)
            for key, value in (stages[-1].result if stages else {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        rows = [f"| {key} | {value:.4g} |" for key, value in numbers]
        head = ["## Figures of the training run", "", "| figure | value |", "|---|---|"]
        return "\n".join(head + rows) if rows else ""
    this, report = found
    models = report["models"]
    rows = ["| figure | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for key, words in _FIGURE_WORDS.items():
        if any(key in model for model in models.values()):
            rows.append(f"| {words} | " + " | ".join(_number(model.get(key)) for model in models.values()) + " |")
    judge = f" Score by {score_judge(report)[0]}." if report.get("judge") else ""
    lines = [f"## Figures\n\nMeasured on held-out questions; this model is `{this}`.{judge}\n", *rows, ""]
    if report.get("judge") and report.get("win_rates"):
        lines += [" ".join(english for english, _ in judge_notes(report)), ""]
    for pair, rate in report.get("win_rates", {}).items():
        a, _, b = pair.partition("_vs_")
        lines.append(
            f"- {a} preferred to {b}: {_number(rate.get('rate'))} "
            f"(95 % interval {_number(rate.get('low'))} to {_number(rate.get('high'))}, n = {rate.get('n')})"
        )
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"


def _limits(known: NamedModel | None, files: Sequence[tuple[Stage, Sequence[DataFile]]]) -> str:
    limits = ["It can state false things with confidence, and nothing here has tested it for safety."]
    if known:
        limits.append(f"The base model: {known.notice}; {known.languages[0].lower()}{known.languages[1:]}.")
    simulated = any("simulated" in file.labellers for _, found in files for file in found)
    if simulated or any(stage.result.get("simulated_share") for stage, _ in files):
        limits.append("Simulated labels come from a rubric, not from people: the figures say how well it is met.")
    if any(stage.kind == "ppo" for stage, _ in files):
        limits.append("PPO exploits what its reward model gets wrong; compare its answers with the SFT model's.")
    return "## Known limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _use(name: str, file: str) -> str:
    if file:
        return f"## Use\n\n```\nllama-cli -m {file}\n```"
    return f"## Use\n\n```\nchatwright chat --model {name}\n```\n\nThe folder also loads in transformers and vLLM."
