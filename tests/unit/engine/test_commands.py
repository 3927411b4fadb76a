"""runs list, compare, prune and verify on folders written by the engine itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from chatwright import cli
from chatwright.engine import run as runs
from chatwright.engine.commands import columns, describe, find_runs, prunable, size_text
from chatwright.engine.run import SaveConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a pretended run."""

    lr: float = 0.1
    """Learning rate."""
    data: tuple[str, ...] = ("a.jsonl",)
    """Files."""
    train: SaveConfig = SaveConfig(save_every_steps=1, keep_checkpoints=9)
    """What is kept."""


def make_run(
    folder: Path, *, lr: float = 0.1, stop_after: int | None = None, losses: tuple[float, ...] = (3, 1, 2)
) -> Path:
    """A run of three steps through engine.run; with `stop_after` it is left unfinished, checkpoints and all."""
    run = runs.start("sft", str(folder), Config(lr=lr), Config().train)
    assert not isinstance(run, dict)
    for step, bar in run.steps(len(losses), lambda: ({"w": torch.ones(4)}, {})):
        run.metrics.log(step + 1, {"loss": losses[step], "eval_loss": losses[step] / 2})
        bar.advance()
        if stop_after == step:
            run.metrics.close()
            run._lock.close()
            return folder

    def save_final(final: Path) -> None:
        (final / "model.safetensors").write_bytes(b"weights")

    run.finish({"steps": len(losses), "loss": losses[-1], "nested": {"accuracy": 0.5}}, save_final)
    return folder


def call(*argv: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_shows_state_steps_size_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "quick" / "two", stop_after=1)
    capsys.readouterr()
    code, out, _ = call("runs", "list", str(tmp_path), capsys=capsys)
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert code == 0 and set(lines) == {str(tmp_path / "one"), str(tmp_path / "quick" / "two")}
    one = lines[str(tmp_path / "one")]
    assert all(part in one for part in ("sft", "complete", " 3 ", "loss 2", "nested.accuracy 0.5"))
    two = lines[str(tmp_path / "quick" / "two")]
    assert all(part in two for part in ("stopped", " 2 ", "loss 1, eval_loss 0.5"))


def test_a_locked_run_is_running_and_is_not_pruned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "r", stop_after=2, losses=(3, 1, 2, 2, 2))
    again = runs.start("sft", str(folder), Config(), Config().train)
    assert not isinstance(again, dict) and again.first_step == 2
    assert describe(folder).state == "running"
    code, out, _ = call("runs", "prune", str(tmp_path), "--yes", capsys=capsys)
    assert code == 0 and "left alone" in out
    again.metrics.close()
    again._lock.close()
    assert describe(folder).state == "stopped"


def test_compare_prints_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a", losses=(3, 2, 1)), make_run(tmp_path / "b", lr=0.25, losses=(3, 2, 1.5))
    capsys.readouterr()
    code, out, _ = call("runs", "compare", str(a), str(b), capsys=capsys)
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert code == 0
    assert rows["lr"] == ["lr", "0.1", "0.25"] and "data" not in rows
    assert rows["loss"] == ["loss", "1", "1.5", "+0.5"]
    code, _, err = call("runs", "compare", str(a), str(tmp_path), capsys=capsys)
    assert code == 2 and "no config.toml" in err


def test_prune_keeps_newest_and_best_and_needs_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "r", stop_after=4, losses=(3, 0.5, 2, 2, 2, 2))
    (folder / ".final.123.tmp").mkdir()
    steps = lambda: sorted(p.name for p in (folder / "checkpoints").iterdir())  # noqa: E731
    assert steps() == [f"step-00000{n}" for n in (1, 2, 3, 4)]
    code, out, _ = call("runs", "prune", str(tmp_path), capsys=capsys)
    assert code == 0 and "would delete" in out and "--yes" in out and len(steps()) == 4
    code, out, _ = call("runs", "prune", str(tmp_path), "--yes", capsys=capsys)
    assert code == 0 and "freed" in out
    assert steps() == ["step-000002", "step-000004"] and not (folder / ".final.123.tmp").exists()
    code, out, _ = call("runs", "prune", str(tmp_path), "--yes", capsys=capsys)
    assert out == "nothing to prune\n"


def test_prune_never_keeps_a_damaged_checkpoint_as_the_newest(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", stop_after=3, losses=(1, 2, 3, 4))
    damaged = folder / "checkpoints" / "step-000003" / "state-00000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert [p.name for p in prunable(folder, "no_such_metric")] == ["step-000001", "step-000003"]
    for path in (folder / "checkpoints").rglob("state-*"):
        path.write_bytes(b"")
    assert prunable(folder, "no_such_metric") == []


@pytest.mark.parametrize("harm", ["flip", "cut", "missing", "swap", "manifest"])
def test_verify_names_the_damaged_file(tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "r")
    capsys.readouterr()
    code, out, _ = call("verify", str(folder), capsys=capsys)
    assert code == 0 and "match their manifests" in out
    victim = folder / "final" / "model.safetensors"
    content = victim.read_bytes()
    if harm == "flip":
        victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif harm == "cut":
        victim.write_bytes(content[:-1])
    elif harm == "missing":
        victim.unlink()
    elif harm == "swap":
        victim.write_bytes((folder / "config.toml").read_bytes())
    else:
        victim = folder / "final" / "MANIFEST.json"
        victim.write_text("{", encoding="utf-8")
    code, out, err = call("verify", str(folder), capsys=capsys)
    assert code == 1 and str(victim) in err and out == ""


def test_verify_without_a_manifest_or_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call("verify", str(tmp_path), capsys=capsys)
    assert code == 1 and "no MANIFEST.json" in err
    code, _, err = call("verify", str(tmp_path / "no"), capsys=capsys)
    assert code == 2 and "no such folder" in err


def test_a_broken_result_is_an_error_not_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "r")
    (folder / "result.json").write_text("{", encoding="utf-8")
    capsys.readouterr()
    code, _, err = call("runs", "list", str(tmp_path), capsys=capsys)
    assert code == 1 and "result.json" in err and "chatwright verify" in err


def test_small_helpers(tmp_path: Path) -> None:
    assert [size_text(n) for n in (0, 999, 1000, 1.5e6, 2e12)] == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2000.0 GB"]
    assert columns([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"
    inner = make_run(tmp_path / "r") / "final"
    (inner / "config.toml").write_text("x = 1\n", encoding="utf-8")
    assert find_runs(tmp_path) == [tmp_path / "r"]
    result: dict[str, Any] = json.loads((tmp_path / "r" / "result.json").read_text())
    assert describe(tmp_path / "r").figures["seconds"] == result["seconds"]
