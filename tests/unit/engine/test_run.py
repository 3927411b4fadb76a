"""Run folders: resume, Ctrl-C, one process at a time, other settings refused, finished runs left alone, metrics."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from chatwright.engine import run as runs
from chatwright.engine.checkpoint import MANIFEST, verify_folder
from chatwright.engine.metrics import Metrics, read_metrics
from chatwright.engine.run import SaveConfig
from chatwright.errors import CheckpointError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a pretended run."""

    lr: float = 0.1
    """Learning rate."""
    train: SaveConfig = SaveConfig(save_every_steps=1, keep_checkpoints=3)
    """What is kept."""


OPENED: list[runs.Run] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPENED:
        close(OPENED.pop())


def start(folder: Path, config: Config | None = None) -> runs.Run:
    config = config or Config()
    run = runs.start("sft", str(folder), config, config.train)
    assert isinstance(run, runs.Run)
    OPENED.append(run)
    return run


class Walk:
    """A pretended training: its weight is a random walk, so that data order and generator state both show."""

    def __init__(self, run: runs.Run, *, seed: int = 0) -> None:
        torch.manual_seed(seed)  # as the recipes do, after the run was opened
        torch.rand(17)
        self.run = run
        self.weight = run.resumed.tensors["w"].clone() if run.resumed else torch.zeros(3)

    def state(self) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        return {"w": self.weight}, {"note": "x"}

    def go(self, total: int, *, stop_after: int | None = None, signal_at: int | None = None) -> None:
        for step, bar in self.run.steps(total, self.state):
            self.weight = self.weight + torch.rand(3) * (step + 1)
            self.run.metrics.log(step + 1, {"loss": float(self.weight.sum())})
            bar.advance()
            if signal_at == step:
                os.kill(os.getpid(), signal.SIGINT)
            if stop_after == step:
                break

    def finish(self) -> dict[str, Any]:
        return self.run.finish({"weight": self.weight.tolist()}, lambda f: (f / "w.txt").write_text("w") and None)


def close(run: runs.Run) -> None:
    """What the end of a killed process does."""
    run.metrics.close()
    run._lock.close()


def test_a_resumed_run_is_bit_equal_although_the_recipe_seeds_the_generator(tmp_path: Path) -> None:
    straight = Walk(start(tmp_path / "a"))
    straight.go(6)
    expected = straight.finish()
    for stop_after in range(5):
        folder = tmp_path / f"b{stop_after}"
        killed = Walk(start(folder))
        killed.go(6, stop_after=stop_after)
        close(killed.run)
        again = Walk(start(folder))
        # `break` comes before the checkpoint of that step, as a kill would.
        assert again.run.first_step == stop_after
        again.go(6)
        assert again.finish()["weight"] == expected["weight"]
        assert read_metrics(folder / "metrics.jsonl") == read_metrics(tmp_path / "a" / "metrics.jsonl")


def test_ctrl_c_saves_after_the_step_and_says_how_to_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = Config(train=SaveConfig(save_every_steps=0))
    before = signal.getsignal(signal.SIGINT)
    walk = Walk(start(tmp_path / "r", config))
    with pytest.raises(KeyboardInterrupt):
        walk.go(5, signal_at=1)
    assert signal.getsignal(signal.SIGINT) is before
    close(walk.run)
    assert "stopped after step 2 of 5, saved. Run the same command to resume" in capfd.readouterr().err
    assert start(tmp_path / "r", config).first_step == 2


@pytest.mark.parametrize("last", [False, True])
def test_a_signal_during_a_save_stops_after_a_saved_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool
) -> None:
    """Not after a step that nobody saved, and not unheard when it was the last one."""
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    real, calls = runs.Run._due_by_clock, [0]

    def signalled(self: Any) -> bool:
        calls[0] += 1
        if calls[0] == 2 and not last:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    real_save = runs.CheckpointStore.save

    def save(self: Any, step: int, *args: Any) -> Path:
        if step == 5 and last:
            os.kill(os.getpid(), signal.SIGINT)
        return real_save(self, step, *args)

    monkeypatch.setattr(runs.Run, "_due_by_clock", signalled)
    monkeypatch.setattr(runs.CheckpointStore, "save", save)
    with pytest.raises(KeyboardInterrupt):
        walk.go(5)
    saved = [p.name for p in (tmp_path / "r" / "checkpoints").iterdir()]
    assert saved == ["step-000005" if last else "step-000003"]
    assert len(read_metrics(tmp_path / "r" / "metrics.jsonl")) == (5 if last else 3)


def test_sigterm_saves_and_exits_143(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    with pytest.raises(SystemExit) as stopped:
        for step, _ in walk.run.steps(5, walk.state):
            walk.weight += 1
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 143
    assert [p.name for p in (tmp_path / "r" / "checkpoints").iterdir()] == ["step-000003"]


def test_ctrl_c_twice_leaves_at_once(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    with pytest.raises(KeyboardInterrupt):
        for _ in walk.run.steps(5, walk.state):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
    assert not (tmp_path / "r" / "checkpoints").exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.go(6, stop_after=4)
    close(walk.run)
    damaged = tmp_path / "r" / "checkpoints" / "step-000004" / "state-00000.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    again = Walk(start(tmp_path / "r"))
    shown = "".join(capfd.readouterr().err.split())
    assert "acheckpointwasrefused:" in shown and "".join(str(damaged).split()) in shown
    assert again.run.first_step == 3
    again.go(6)
    straight = Walk(start(tmp_path / "a"))
    straight.go(6)
    assert again.finish()["weight"] == straight.finish()["weight"]


def test_a_finished_run_gives_its_result_and_trains_no_more(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.go(3)
    result = walk.finish()
    assert result["kind"] == "sft" and result["path"] == str(tmp_path / "r" / "final")
    assert not (tmp_path / "r" / "checkpoints").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*") if p.name != ".lock"}
    assert runs.start("sft", str(tmp_path / "r"), Config(), SaveConfig()) == result
    assert {p: p.stat().st_mtime_ns for p in before} == before
    listed = verify_folder(tmp_path / "r")["files"]
    assert {"config.toml", "metrics.jsonl", "result.json", "final/w.txt", f"final/{MANIFEST}"} - set(listed) == {
        f"final/{MANIFEST}"
    }


def test_a_finished_run_that_was_damaged_is_an_error_naming_the_file(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.go(2)
    walk.finish()
    (tmp_path / "r" / "final" / "w.txt").write_text("x")
    with pytest.raises(CheckpointError, match="final/w.txt"):
        runs.start("sft", str(tmp_path / "r"), Config(), SaveConfig())


@pytest.mark.parametrize("missing", [(MANIFEST,), (MANIFEST, "result.json"), (MANIFEST, "result.json", "final")])
def test_killed_while_finishing_it_goes_on_from_the_last_checkpoint(tmp_path: Path, missing: tuple[str, ...]) -> None:
    """Checkpoints go only after the manifest is written, so no step is trained twice: the last one has a checkpoint."""
    walk = Walk(start(tmp_path / "r"))
    walk.go(4)
    kept = tmp_path / "kept"
    (tmp_path / "r" / "checkpoints").rename(kept)
    expected = walk.finish()
    kept.rename(tmp_path / "r" / "checkpoints")
    for name in missing:
        path = tmp_path / "r" / name
        path.unlink() if path.is_file() else [child.unlink() for child in path.iterdir()] and path.rmdir()
    again = Walk(start(tmp_path / "r"))
    assert again.run.first_step == 4
    again.go(4)
    assert again.finish()["weight"] == expected["weight"]


def test_the_last_step_has_a_checkpoint_before_the_run_is_evaluated(tmp_path: Path) -> None:
    """Even with the default settings: what comes after the loop (report, judge, network) may fail."""
    config = Config(train=SaveConfig())
    walk = Walk(start(tmp_path / "r", config))
    walk.go(3)
    close(walk.run)  # killed before `finish`
    again = Walk(start(tmp_path / "r", config))
    assert again.run.first_step == 3 and torch.equal(again.weight, walk.weight)
    again.go(3)
    assert again.finish()["weight"] == walk.weight.tolist()


def test_a_full_disk_after_the_last_step_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise CheckpointError("no space left on device")

    monkeypatch.setattr(runs.CheckpointStore, "save", full)
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    walk.go(2)
    assert walk.finish()["weight"] == walk.weight.tolist()
    assert "no checkpoint after step 2, the run continues without it: no space left on device" in capfd.readouterr().err


def test_checkpoints_are_written_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 5 minutes by default; less often where a save takes more than 5 % of the time."""
    now = [0.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    saved: list[int] = []
    cost_s = {20: 60.0}  # seconds that saving takes
    real = runs.CheckpointStore.save

    def save(self: Any, step: int, *args: Any) -> Path:
        saved.append(step)
        now[0] += cost_s.get(step, 0.0)
        return real(self, step, *args)

    monkeypatch.setattr(runs.CheckpointStore, "save", save)
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    for _ in walk.run.steps(60, walk.state):
        now[0] += 30.0
    assert saved == [10, 20, 60]  # after 300 s, 600 s, and then not within 1,200 s of a save of 60 s
    saved.clear()
    never = Walk(start(tmp_path / "n", Config(train=SaveConfig(save_every_minutes=0))))
    for _ in never.run.steps(30, never.state):
        now[0] += 3000.0
    assert saved == [30]


def test_an_error_in_a_step_saves_the_step_before_it_bit_for_bit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    straight = Walk(start(tmp_path / "a"))
    straight.go(5)
    config = Config(train=SaveConfig())
    walk = Walk(start(tmp_path / "r", config))
    with pytest.raises(ZeroDivisionError):
        for step, _ in walk.run.steps(5, walk.state):
            with walk.run.saved_on_error(walk.state):
                if step == 3:
                    torch.rand(5)  # the step has drawn numbers before it failed
                    raise ZeroDivisionError
            walk.weight = walk.weight + torch.rand(3) * (step + 1)
    close(walk.run)
    assert "saved after step 3. Run the same command to resume" in capfd.readouterr().err
    again = Walk(start(tmp_path / "r", config))
    assert again.run.first_step == 3
    again.go(5)
    assert torch.equal(again.weight, straight.weight)


def test_an_error_before_the_first_step_claims_no_checkpoint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    walk = Walk(start(tmp_path / "r", Config(train=SaveConfig())))
    with pytest.raises(ZeroDivisionError):
        for _ in walk.run.steps(5, walk.state):
            with walk.run.saved_on_error(walk.state):
                raise ZeroDivisionError
    assert "saved" not in capfd.readouterr().err and walk.run.checkpoint_words() == "There is no checkpoint"
    assert not (tmp_path / "r" / "checkpoints").exists()


@pytest.mark.parametrize(
    "changes", [{"save_every_steps": -1}, {"save_every_minutes": float("nan")}, {"keep_checkpoints": 0}]
)
def test_impossible_settings_of_saving_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="save-every-steps"):
        start(tmp_path / "r", Config(train=SaveConfig(**changes)))
    assert not (tmp_path / "r").exists()


def test_checkpoints_are_dropped_only_after_the_manifest_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.go(3)

    def killed(*_: object) -> None:
        raise RuntimeError("kill -9")

    monkeypatch.setattr(runs.CheckpointStore, "clear", killed)
    with pytest.raises(RuntimeError):
        walk.finish()
    close(walk.run)
    monkeypatch.undo()
    result = runs.start("sft", str(tmp_path / "r"), Config(), SaveConfig())
    assert isinstance(result, dict) and not (tmp_path / "r" / "checkpoints").exists()
    verify_folder(tmp_path / "r")


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    close(start(tmp_path / "r"))
    for name in ("checkpoints/.step-000002.123.tmp/a", ".final.123.tmp/b", ".final.77.old/b", ".result.json.9.tmp"):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).write_text("half")
    start(tmp_path / "r")
    assert sorted(p.name for p in (tmp_path / "r").rglob("*")) == [
        ".lock", "checkpoints", "config.toml", "inputs.json", "metrics.jsonl",
    ]  # fmt: skip


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    first = start(tmp_path / "r")
    with pytest.raises(ConfigError, match="another process is working on this run"):
        start(tmp_path / "r")
    close(first)
    start(tmp_path / "r")


def test_other_settings_in_the_same_folder_are_refused_and_named(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.go(3, stop_after=1)
    close(walk.run)
    with pytest.raises(ConfigError, match=r"other settings \(--lr 0.2, was 0.1\).*another --out"):
        start(tmp_path / "r", Config(lr=0.2))
    finished = Walk(start(tmp_path / "f"))
    finished.go(1)
    finished.finish()
    with pytest.raises(ConfigError, match="other settings"):
        start(tmp_path / "f", Config(lr=0.2))


def test_a_run_that_never_made_a_step_may_start_with_other_settings(tmp_path: Path) -> None:
    """A first call with a wrong flag or file leaves nothing that is worth keeping."""
    close(start(tmp_path / "r"))
    run = start(tmp_path / "r", Config(lr=0.2))
    assert "lr = 0.2" in (tmp_path / "r" / "config.toml").read_text()
    close(run)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_without_a_checkpoint_says_that_it_begins_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damaged: bool
) -> None:
    """Killed in its first steps, or with damaged checkpoints; a new run says nothing."""
    config = Config(train=SaveConfig(save_every_steps=int(damaged)))
    walk = Walk(start(tmp_path / "r", config))
    assert "again" not in capfd.readouterr().err
    walk.go(40, stop_after=4)
    close(walk.run)
    for file in (tmp_path / "r" / "checkpoints").glob("*/*.safetensors"):
        file.write_bytes(b"")
    assert start(tmp_path / "r", config).first_step == 0
    said = capfd.readouterr().err
    assert "it begins again at step 1" in said
    assert ("no checkpoint that is usable" if damaged else "ended before its first checkpoint") in said


def test_an_out_that_cannot_be_a_folder_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--out .*cannot be made"):
        start(tmp_path / "file")


def test_seconds_are_counted_over_all_processes(tmp_path: Path) -> None:
    walk = Walk(start(tmp_path / "r"))
    walk.run.seconds_before = 100.0
    walk.go(5, stop_after=2)
    close(walk.run)
    assert start(tmp_path / "r").seconds >= 100.0


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_after_the_checkpoint_are_cut_when_a_run_resumes(tmp_path: Path) -> None:
    written = Metrics(tmp_path)
    for step in range(1, 6):
        written.log(step, {"loss": step / 2, "note": "größer"})
    written.close()
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    again = Metrics(tmp_path, resume_step=3)
    again.log(4, {"loss": 9.0})
    again.close()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 9.0)]
    assert rows[0]["note"] == "größer"


@pytest.mark.parametrize(("resumed", "kept"), [(0, []), (1, [0, 1])])
def test_what_was_measured_before_the_first_step_goes_when_that_is_done_anew(
    tmp_path: Path, resumed: int, kept: list[int]
) -> None:
    written = Metrics(tmp_path)
    for step in (0, 1, 2):
        written.log(step, {"loss": 1.0})
    written.close()
    Metrics(tmp_path, resume_step=resumed).close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == kept


def test_a_row_is_on_file_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    written = Metrics(tmp_path)
    written.log(1, {"loss": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.5}
    written.close()


def test_a_field_named_step_does_not_hide_the_step(tmp_path: Path) -> None:
    """rollouts.jsonl holds the user's own fields beside ours."""
    written = Metrics(tmp_path, name="rollouts.jsonl")
    written.log(3, {"step": "one of the user's", "reward": 1.0})
    written.close()
    assert read_metrics(tmp_path / "rollouts.jsonl") == [{"step": 3, "reward": 1.0}]


def test_tensorboard_gets_a_copy(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = Metrics(tmp_path, ("tensorboard",))
    for step in (1, 2):
        written.log(step, {"loss": step / 2})
    written.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 1.0)]


def test_an_absent_sink_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install 'chatwright\\[track\\]'"):
        Metrics(tmp_path, ("wandb",))
