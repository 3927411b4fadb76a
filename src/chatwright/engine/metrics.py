"""metrics.jsonl: one JSON object a step, append-only, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from chatwright.errors import ConfigError

Sink = Literal["tensorboard", "wandb"]


class Metrics:
    """Writer of a run's metrics, with optional TensorBoard and offline W&B copies."""

    def __init__(
        self, folder: Path, sinks: tuple[Sink, ...] = (), *, resume_step: int = 0, name: str = "metrics.jsonl"
    ) -> None:
        self.path = folder / name
        self._keep_until(resume_step)
        self._writers = [_open_sink(sink, folder) for sink in sinks]
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close())
        weakref.finalize(self, self._file.close)  # when a recipe raises

    def _keep_until(self, step: int) -> None:
        if not self.path.exists():
            return
        # Without a checkpoint everything is done anew, what was written before the first step as well.
        kept = [row for row in read_metrics(self.path) if row["step"] <= step] if step else []
        aside = self.path.with_suffix(".tmp")
        aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        os.replace(aside, self.path)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append `values` of 1-based `step`; flushed at once so that a kill loses at most this line."""
        row = {"step": step, **{name: value for name, value in values.items() if name != "step"}}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        for writer in self._writers:
            writer.log(step, values)

    def close(self) -> None:
        """Close the file and the sinks."""
        self._file.close()
        for writer in self._writers:
            writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; a half-written last line (killed while writing) is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _open_sink(sink: Sink, folder: Path) -> _TensorBoard | _WandB:
    try:
        return _TensorBoard(folder) if sink == "tensorboard" else _WandB(folder)
    except ImportError:
        raise ConfigError(f"--sinks {sink}: the package is not installed; pip install 'chatwright[track]'") from None


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, folder: Path) -> None:
        import wandb

        self._run = wandb.init(mode="offline", dir=str(folder), project="chatwright", name=folder.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
