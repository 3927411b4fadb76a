"""A run folder: config.toml, inputs.json, metrics.jsonl, checkpoints/, final/, result.json, MANIFEST.json.

`start` opens or resumes it, `steps` yields the step numbers with progress and a clean Ctrl-C, `finish` seals it.
The same command run again resumes from the last good checkpoint, or reports that the run is complete. A checkpoint is
written by the clock, after the last step, on Ctrl-C, and on errors that `saved_on_error` meets.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from chatwright.config import dump_toml
from chatwright.engine.checkpoint import (
    CHECKPOINTS,
    MANIFEST,
    CheckpointStore,
    Loaded,
    atomic_folder,
    read_manifest,
    remove_leftovers,
    restore_rng,
    rng_state,
    verify_folder,
    write_manifest,
    write_text,
)
from chatwright.engine.machine import contention_words
from chatwright.engine.memory import keep_heap
from chatwright.engine.metrics import Metrics, Sink
from chatwright.engine.record import (
    INPUTS,
    Record,
    Sources,
    changed_settings,
    check_run_folder,
    compare,
    refuse,
    remove,
    settings_of_toml,
)
from chatwright.errors import CheckpointError, ConfigError, RunChangedError, TrainingStopped
from chatwright.progress import ProgressBar, console

StateFunction = Callable[[], tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]]
"""Tensors and small values of a checkpoint, as they are after the last whole step."""
_OWN_FILES = (
    "config.toml", INPUTS, "plan.json", "metrics.jsonl", "rollouts.jsonl", "samples.jsonl", "report_card.json",
    "report_card.txt", "result.json", MANIFEST, "final", CHECKPOINTS,
)  # fmt: skip
_CROWDED_AFTER_S = 30.0
_SAVE_SHARE = 0.05  # checkpoints by the clock take at most this share of the time


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """What is kept during a run."""

    save_every_steps: int = 0
    """Write a checkpoint every this many steps as well; 0: by the clock only."""
    save_every_minutes: float = 5.0
    """Write a checkpoint when the last one is this many minutes old, less often where saving takes more than 5 % of the
    time; 0: not by the clock. One is always written after the last step, before anything is evaluated."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk during the run."""
    sinks: tuple[Sink, ...] = ()
    """Further places for the metrics: tensorboard, wandb (offline)."""


@dataclass(kw_only=True)
class Run:
    """One training run on disk. Recipes hold it; it knows no model and no objective."""

    kind: str
    folder: Path
    record: Record
    store: CheckpointStore
    metrics: Metrics
    resumed: Loaded | None
    save: SaveConfig
    seconds_before: float = 0.0
    _lock: Any = None
    _stop_signal: int = 0
    _started: float = field(default_factory=time.monotonic)
    _done: int = 0
    """Whole steps behind the state."""
    _rng: dict[str, torch.Tensor] = field(default_factory=dict)
    """Random states after the last whole step: an error comes later, when more numbers may have been drawn."""
    _saved_at: float = 0.0
    _loop_started: float = 0.0
    _loop_cpu_s: float = 0.0
    _said_crowded: bool = False
    _save_cost_s: float = 0.0

    @property
    def first_step(self) -> int:
        """Steps already done when this process took over."""
        return self.resumed.step if self.resumed else 0

    @property
    def seconds(self) -> float:
        """Time spent on this run, over all the processes that worked on it, in seconds."""
        return self.seconds_before + time.monotonic() - self._started

    def steps(self, total: int | None, state: StateFunction) -> Iterator[tuple[int, ProgressBar]]:
        """Yield (0-based step, bar). After each step: checkpoint when due; on a signal save, then stop.

        `state` gives the tensors and small values to save, as they are after the step that has just ended. `total` None:
        until the caller breaks out of the loop; it calls `save_last` then.
        """
        if self.resumed:  # here and not in `start`: opening the model may have drawn numbers or set a seed
            restore_rng(self.resumed.tensors)
        self._done, self._rng, self._saved_at = self.first_step, rng_state(), time.monotonic()
        self._loop_started, self._loop_cpu_s = time.monotonic(), time.process_time()
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with ProgressBar(self.kind, total, done=self.first_step) as bar:
                for step in itertools.count(self.first_step) if total is None else range(self.first_step, total):
                    yield step, bar
                    self._after(step + 1, total, state)
                if self._stop_signal and self._done in self.store.steps():  # it came while the last step was saved
                    self._leave(self._stop_signal, total)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _after(self, done: int, total: int | None, state: StateFunction) -> None:
        self._done, self._rng = done, rng_state()
        self._say_when_crowded()
        every, stop = self.save.save_every_steps, self._stop_signal  # a signal that comes now waits for the next step
        if stop or (every and done % every == 0 and done != total):
            self._write(state)
        elif done == total or self._due_by_clock():
            self._try_to_write(state)
        if stop:
            self._leave(stop, total)

    def _leave(self, stop: int, total: int | None) -> NoReturn:
        of = "" if total is None else f" of {total}"
        console().print(f"{self.kind}: stopped after step {self._done}{of}, saved. Run the same command to resume.")
        if stop == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + stop)

    def _say_when_crowded(self) -> None:
        """Once, after some time: that other work takes the processors, which else only shows as a slow run."""
        wall_s = time.monotonic() - self._loop_started
        if self._said_crowded or wall_s < _CROWDED_AFTER_S or torch.cuda.is_available():
            return
        self._said_crowded = True
        cpu_s, threads = time.process_time() - self._loop_cpu_s, torch.get_num_threads()
        if words := contention_words(cpu_s, wall_s, threads, os.getloadavg()[0], os.cpu_count() or 1):
            console().print(f"{self.kind}: {words}")

    def _due_by_clock(self) -> bool:
        wait_s = max(self.save.save_every_minutes * 60, self._save_cost_s / _SAVE_SHARE)
        return self.save.save_every_minutes > 0 and time.monotonic() - self._saved_at >= wait_s

    def _write(self, state: StateFunction) -> None:
        started = time.monotonic()
        tensors, meta = state()
        self.store.save(self._done, tensors, {**meta, "seconds": self.seconds}, self._rng)
        self._saved_at = time.monotonic()
        self._save_cost_s = self._saved_at - started

    def _try_to_write(self, state: StateFunction) -> None:
        """A checkpoint that nobody asked for: a disk without room for it does not stop the run."""
        self._saved_at = time.monotonic()
        try:
            self._write(state)
        except CheckpointError as error:
            console().print(f"{self.kind}: no checkpoint after step {self._done}, the run continues without it: {error}")

    def save_last(self, done: int, state: StateFunction) -> None:
        """Checkpoint after step `done`, for a caller that ends the loop itself."""
        if done > self.first_step:
            self._done, self._rng = done, rng_state()
            self._try_to_write(state)

    def save_failed(self, done: int, state: StateFunction) -> None:
        """Checkpoint after step `done` before an error is reported that came when the step itself had ended."""
        self._done, self._rng = done, rng_state()
        self._save_failed(state, None)

    @contextlib.contextmanager
    def saved_on_error(
        self, state: StateFunction, save_final: Callable[[Path], None] | None = None
    ) -> Iterator[None]:
        """Save the last whole step before an error of the block is reported; the block must not change the state.

        `save_final` writes the weights of that step, as in `finish`, where training itself cannot continue
        (TrainingStopped): the same command would only repeat the error.
        """
        try:
            yield
        except Exception as error:
            if self._done:
                self._save_failed(state, save_final if isinstance(error, TrainingStopped) else None)
            raise

    def _save_failed(self, state: StateFunction, save_final: Callable[[Path], None] | None) -> None:
        if self._done not in self.store.steps():
            self._try_to_write(state)
        if save_final is not None:
            with atomic_folder(self.folder / "final") as aside:
                save_final(aside)
            words = f"The weights of that step are in {self.folder / 'final'}, not evaluated"
        else:
            words = "Run the same command to resume"
        if self._done in self.store.steps():
            console().print(f"{self.kind}: saved after step {self._done}. {words}.")

    def checkpoint_words(self) -> str:
        """A sentence about the newest checkpoint on disk, for messages about a run that stops."""
        if not (steps := self.store.steps()):
            return "There is no checkpoint"
        return f"The newest checkpoint is that of step {steps[-1]} in {self.store.folder}"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal:  # asked twice: leave now; the last checkpoint stands
            raise KeyboardInterrupt
        self._stop_signal = number
        # Not through sys.stderr: the signal may have come while that was being written to.
        os.write(2, f"{self.kind}: finishing this step, then saving (Ctrl-C again to leave at once)\n".encode())

    def finish(self, result: Mapping[str, Any], save_final: Callable[[Path], None]) -> dict[str, Any]:
        """Write final/ by `save_final`, result.json and the manifest; drop checkpoints; return the result."""
        with atomic_folder(self.folder / "final") as aside:
            save_final(aside)
        self.metrics.close()
        whole = {"kind": self.kind, **result, "seconds": round(self.seconds, 2), "path": str(self.folder / "final")}
        write_text(self.folder / "result.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        write_manifest(self.folder, {"kind": self.kind})
        self.store.clear()
        self._lock.close()
        return whole


def finished_result(folder: Path) -> dict[str, Any] | None:
    """The result of a run that is complete and intact, else None."""
    if not (folder / "MANIFEST.json").is_file() or not (folder / "result.json").is_file():
        return None
    read_manifest(folder)
    verify_folder(folder)
    return dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))


def is_complete(out: str) -> bool:
    """Whether the run folder `out` was finished: such a run is not done again and reads nothing."""
    return (Path(out) / MANIFEST).is_file()


def start(kind: str, out: str, config: Any, save: SaveConfig, sources: Sources | None = None) -> Run | dict[str, Any]:
    """Open the run folder `out`: a Run to work on, or the result when the same run is already complete.

    `sources`: what the settings name that is read; its content is part of the run's identity. RunChangedError when the
    folder holds a run of other inputs or settings; with `config.fresh` that one is deleted. ConfigError when it
    holds a model or an input of this run. DataError for a file that is not there, before the folder is made.
    """
    _check_save(save)
    folder, fresh = Path(out), bool(getattr(config, "fresh", False))
    record = Record.of(kind, config, sources or {}, complete=is_complete(out) and not fresh)
    check_run_folder(record, folder, _OWN_FILES)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made ({error.strerror}); choose another folder") from None
    lock = _lock_folder(folder)
    try:
        if fresh:
            _remove_run(folder, kind)
        run = _open(record, folder, config, save, lock)
    except BaseException:
        lock.close()
        if made:
            _remove_unstarted(folder)
        raise
    if isinstance(run, Run):  # when a recipe raises, the folder is free as soon as the error is dealt with
        weakref.finalize(run, _leave_folder, lock, folder if made else None)
    return run


def _leave_folder(lock: Any, made: Path | None) -> None:
    if made is not None:
        _remove_unstarted(made)
    lock.close()


def _remove_unstarted(folder: Path) -> None:
    """Remove the folder of a run that failed before its first step: it holds settings and nothing that was learned. What
    somebody else put there stays."""
    if (folder / MANIFEST).exists() or (folder / CHECKPOINTS).exists() or _has_stepped(folder):
        return
    with contextlib.suppress(OSError):
        remove([folder / name for name in (*_OWN_FILES, ".lock")])
        folder.rmdir()


def _open(record: Record, folder: Path, config: Any, save: SaveConfig, lock: Any) -> Run | dict[str, Any]:
    kind = record.kind
    _check_same_run(folder, record, config)
    for place in (folder, folder / CHECKPOINTS):
        remove_leftovers(place)
    result = finished_result(folder)
    if result is not None:
        console().print(f"{kind}: {folder} is complete (--fresh, or another --out, trains again)")
        CheckpointStore(folder).clear()  # where the last process was killed before it could
        lock.close()
        return result
    settled = replace(config, fresh=False) if hasattr(config, "fresh") else config
    write_text(folder / "config.toml", dump_toml(settled, header=f"chatwright {kind}"))
    record.write(folder / INPUTS)
    keep_heap()
    store = CheckpointStore(folder, save.keep_checkpoints)
    resumed, refused = store.latest()
    for reason in refused:
        console().print(f"{kind}: a checkpoint was refused: {reason}")
    if resumed:
        console().print(f"{kind}: resuming after step {resumed.step}")
    elif _has_stepped(folder):
        reason = "holds no checkpoint that is usable" if refused else "ended before its first checkpoint"
        console().print(f"{kind}: {folder} {reason}; it begins again at step 1 (--train.save-every-steps N saves earlier)")
    metrics = Metrics(folder, save.sinks, resume_step=resumed.step if resumed else 0)
    before = float(resumed.meta.get("seconds", 0.0)) if resumed else 0.0
    return Run(
        kind=kind, folder=folder, record=record, store=store, metrics=metrics, resumed=resumed, save=save,
        seconds_before=before, _lock=lock,
    )  # fmt: skip


def _has_stepped(folder: Path) -> bool:
    """A process of this run wrote metrics of a step."""
    metrics = folder / "metrics.jsonl"
    return metrics.is_file() and metrics.stat().st_size > 0


def _check_save(save: SaveConfig) -> None:
    if save.save_every_steps < 0 or not save.save_every_minutes >= 0 or save.keep_checkpoints < 1:
        raise ConfigError("--train: save-every-steps and save-every-minutes must be 0 or more, keep-checkpoints at least 1")


def _lock_folder(folder: Path) -> Any:
    handle = open(folder / ".lock", "w", encoding="utf-8")  # noqa: SIM115 (held for the life of the run)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise ConfigError(f"{folder}: another process is working on this run; wait for it or use another --out") from None
    return handle


def _check_same_run(folder: Path, record: Record, config: Any) -> None:
    """RunChangedError when the folder holds another run that has trained anything."""
    path = folder / "config.toml"
    begun = _has_stepped(folder) or (folder / MANIFEST).exists() or (folder / CHECKPOINTS).exists()
    if not path.is_file() or not begun:
        return  # nothing is lost when a run that stopped before its first step starts with other settings
    if (held := _kind_of(path)) != record.kind:
        raise RunChangedError(f"{folder}: holds a {held} run, not {record.kind}; use another --out")
    old = Record.read(folder / INPUTS)
    if old is not None:
        compare(record, old, config, folder)
        return
    settings = {key: value for key, value in settings_of_toml(path).items() if key not in record.inputs}
    refuse(folder, record.kind, [], changed_settings(settings, record.settings, config))
    console().print(f"{record.kind}: an earlier version began {folder} and did not note its inputs; they are not compared")


def _kind_of(path: Path) -> str:
    """The command in the first line of a config.toml."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().removeprefix("# chatwright ").strip()


def _remove_run(folder: Path, kind: str) -> None:
    """Delete the files of a run of this kind; others in its folder stay."""
    path = folder / "config.toml"
    if path.is_file() and _kind_of(path) == kind:
        remove([folder / name for name in _OWN_FILES])


__all__ = ["CheckpointError", "Run", "SaveConfig", "finished_result", "is_complete", "start"]
