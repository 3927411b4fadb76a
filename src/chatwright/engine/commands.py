"""`chatwright runs list|compare|prune` and `chatwright verify`: what lies in run folders. Loads no model."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from chatwright.config import read_toml
from chatwright.engine.checkpoint import MANIFEST, leftovers, verify_folder
from chatwright.engine.metrics import read_metrics
from chatwright.errors import CheckpointError, ConfigError

Folder = Positional[Annotated[str, arg(metavar="FOLDER")]]
_MAIN_FIGURES = 4
# Counts and settings that a result carries beside its figures.
_NO_FIGURES = {"seconds", "steps", "examples", "peak_rss_bytes", "seed"}


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Which runs to list."""

    folder: Folder = "runs"
    """Folder to look into; runs inside runs are found too."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Two runs."""

    a: Folder
    """Run folder."""
    b: Folder
    """Run folder."""


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Which checkpoints may go. The newest one stays, and the one with the lowest held-out loss if that is logged."""

    folder: Folder = "runs"
    """A run, or a folder of runs."""
    metric: str = "eval_loss"
    """Field of metrics.jsonl whose lowest value marks the best checkpoint."""
    yes: bool = False
    """Delete; without it, only say what would be deleted."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify."""

    folder: Folder
    """A run, a checkpoint, an exported model, or a folder of these."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run folder says about itself."""

    path: Path
    kind: str
    """sft, reward, ppo, ...; "?" for a run that has not finished and does not say."""
    state: str
    """complete, running or stopped."""
    step: int
    """Steps done."""
    num_bytes: int
    """Size of all its files."""
    modified: float
    """Seconds since the epoch at which its newest file was written."""
    figures: dict[str, float]
    """Numbers of result.json, dotted; those of the last metrics row while it is not complete."""


# ---- reading run folders ---------------------------------------------------------------------------------------------


def find_runs(folder: Path) -> list[Path]:
    """Every run folder at or below `folder`, sorted; what lies inside checkpoints and final weights is no run."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name a run folder or a folder of runs")
    inner = {"checkpoints", "final"}
    found = (path.parent for path in folder.rglob("config.toml"))
    return sorted(p for p in found if not inner & set(p.relative_to(folder).parts))


def describe(path: Path) -> RunInfo:
    """The facts about one run folder."""
    result = _json(path / "result.json")
    metrics = read_metrics(path / "metrics.jsonl") if (path / "metrics.jsonl").is_file() else []
    files = [f for f in path.rglob("*") if f.is_file()]
    complete = (bool(result) and (path / MANIFEST).is_file()) or (path / "report.json").is_file()
    last_step = int(metrics[-1].get("step", 0)) if metrics else 0
    return RunInfo(
        path=path,
        kind=str(result.get("kind") or _kind_of(path / "config.toml")),
        state="complete" if complete else "running" if _locked(path / ".lock") else "stopped",
        step=int(result.get("steps") or last_step),
        num_bytes=sum(f.stat().st_size for f in files),
        modified=max((f.stat().st_mtime for f in files), default=path.stat().st_mtime),
        figures=dict(numbers(result if complete else metrics[-1] if metrics else {})),
    )


def numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """(dotted name, number) of every number in nested dicts, in order."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from numbers(item, f"{prefix}{name}.")
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield prefix + name, item


def settings(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting in a TOML table."""
    for name, item in table.items():
        if isinstance(item, Mapping):
            yield from settings(item, f"{prefix}{name}.")
        else:
            yield prefix + name, item


def _kind_of(config: Path) -> str:
    """The kind that `run.start` wrote into the first line of config.toml; "?" when there is none."""
    with open(config, encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return first.removeprefix("# chatwright ").strip() if first.startswith("# chatwright ") else "?"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        hint = f"`chatwright verify {path.parent}` checks the run"
        raise CheckpointError(f"{path}: cannot be read ({error}); {hint}") from None
    return value if isinstance(value, dict) else {}


def _locked(lock: Path) -> bool:
    """Whether a process works on the run."""
    if not lock.exists():
        return False
    with open(lock, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


# ---- commands --------------------------------------------------------------------------------------------------------


def list_(cfg: ListConfig) -> None:
    """Print one line per run, newest last."""
    runs = sorted((describe(path) for path in find_runs(Path(cfg.folder))), key=lambda run: run.modified)
    if not runs:
        print(f"no runs in {cfg.folder}")
        return
    rows = [["RUN", "KIND", "STATE", "STEPS", "SIZE", "WRITTEN", "FIGURES"]]
    for run in runs:
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.modified))
        main = [(k, v) for k, v in run.figures.items() if k not in _NO_FIGURES and k != "step"][:_MAIN_FIGURES]
        figures = ", ".join(f"{name} {_short(value)}" for name, value in main)
        rows.append([str(run.path), run.kind, run.state, str(run.step), size_text(run.num_bytes), written, figures])
    print(columns(rows))


def compare(cfg: CompareConfig) -> None:
    """Print the settings and the figures in which two runs differ."""
    paths = [Path(cfg.a), Path(cfg.b)]
    for path in paths:
        if not (path / "config.toml").is_file():
            raise ConfigError(f"{path}: not a run folder (it has no config.toml); `chatwright runs list` shows runs")
    tables = [dict(settings(read_toml(path / "config.toml"))) for path in paths]
    keys = [key for key in {**tables[0], **tables[1]} if tables[0].get(key) != tables[1].get(key)]
    rows = [["SETTING", str(paths[0]), str(paths[1])]]
    rows += [[key, *(_setting(table, key) for table in tables)] for key in keys]
    print(columns(rows) if keys else "the settings are equal")
    figures = [describe(path).figures for path in paths]
    rows = [["FIGURE", str(paths[0]), str(paths[1]), "DIFFERENCE"]]
    for name in {**figures[0], **figures[1]}:
        a, b = (f.get(name) for f in figures)
        difference = f"{b - a:+.4g}" if a is not None and b is not None else ""
        rows.append([name, _short(a), _short(b), difference])
    print("\n" + (columns(rows) if len(rows) > 1 else "no figures yet"))


def prune(cfg: PruneConfig) -> None:
    """Delete checkpoints of unfinished runs except the newest and the best, and what a kill left half-written."""
    total = 0
    for path in find_runs(Path(cfg.folder)):
        if _locked(path / ".lock"):
            print(f"{path}: running, left alone")
            continue
        for victim in prunable(path, cfg.metric):
            size = sum(f.stat().st_size for f in victim.rglob("*") if f.is_file())
            total += size
            print(f"{'deleted' if cfg.yes else 'would delete'} {victim} ({size_text(size)})")
            if cfg.yes:
                shutil.rmtree(victim)
    verb = "freed" if cfg.yes else "to free; run again with --yes to delete"
    print(f"{size_text(total)} {verb}" if total else "nothing to prune")


def prunable(run: Path, metric: str) -> list[Path]:
    """Folders of one run that nothing needs any more."""
    saved = {int(p.name.split("-")[1]): p for p in sorted((run / "checkpoints").glob("step-*")) if p.is_dir()}
    keep = set(_newest_whole(saved))
    rows = read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    values = {row["step"]: row[metric] for row in rows if row.get("step") in saved and metric in row}
    if values:
        keep.add(min(values, key=lambda step: values[step]))
    places = [run, *(p for p in sorted(run.rglob("*")) if p.is_dir() and not p.name.startswith("."))]
    half = [path for place in places for path in leftovers(place) if path.is_dir()]
    return [path for step, path in saved.items() if step not in keep] + half


def _newest_whole(saved: Mapping[int, Path]) -> Iterator[int]:
    """The newest step whose checkpoint verifies; all of them when none does."""
    for step in sorted(saved, reverse=True):
        try:
            verify_folder(saved[step])
        except CheckpointError:
            continue
        yield step
        return
    yield from saved


def verify(cfg: VerifyConfig) -> None:
    """Check every manifest at or below the folder. CheckpointError names each file that differs."""
    folder = Path(cfg.folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    manifests = sorted(folder.rglob(MANIFEST))
    if not manifests:
        raise CheckpointError(f"{folder}: there is no {MANIFEST}; nothing here was finished by chatwright")
    wrong, num_files, num_bytes = [], 0, 0
    for path in manifests:
        try:
            files = verify_folder(path.parent)["files"].values()
        except CheckpointError as error:
            wrong.append(str(error))
            continue
        num_files += len(files)
        num_bytes += sum(file.get("bytes", file.get("size", 0)) for file in files)
    if wrong:
        raise CheckpointError("\n".join(wrong))
    print(f"{folder}: {num_files} files ({size_text(num_bytes)}) match their manifests")


# ---- text ------------------------------------------------------------------------------------------------------------


def columns(rows: list[list[str]]) -> str:
    """Rows as left-aligned columns two blanks apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def size_text(num_bytes: float) -> str:
    """`1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"


def _setting(table: Mapping[str, Any], key: str) -> str:
    return json.dumps(table[key], ensure_ascii=False, default=str) if key in table else "-"


def _short(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"
