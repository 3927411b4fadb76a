"""What the stages of a chain cost and on what machine, in one file beside them that outlives restarts."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatwright.errors import RunChangedError

if TYPE_CHECKING:
    from chatwright.model.precision import Precision


def said_anew(error: RunChangedError) -> str:
    """The changes for which a stage is made anew."""
    from chatwright.engine.record import ANEW

    return f"{str(error).removesuffix(ANEW)}It is made anew"


class StageTimes:
    """`chain.json`: seconds by stage, peak memory, the stages that are complete, the machine. No file: nothing is kept."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.state: dict[str, Any] = {"seconds": {}, "peak_rss_bytes": 0}
        if file is not None and file.is_file():
            self.state = json.loads(file.read_text(encoding="utf-8"))

    def stage(self, name: str, work: Callable[[], Any], *, may_wait: bool = False) -> Any:
        """The result of `work`, timed; `may_wait`: the result None means that the stage waits for somebody.

        What a complete stage takes to find out that it is complete is not its time.
        """
        from chatwright.engine.memory import peak_rss_bytes, trim

        started = time.monotonic()
        done = name in self.state.get("complete", [])
        try:
            result = work()
            if not done and not (may_wait and result is None):
                self.state["complete"] = [*self.state.get("complete", []), name]
            return result
        finally:
            seconds = self.state["seconds"]
            if not done:
                seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 2)
            self.state["peak_rss_bytes"] = max(self.state["peak_rss_bytes"], peak_rss_bytes())
            self._write()
            gc.collect()
            trim()

    def forget(self, name: str) -> None:
        """A stage begins anew: it is not complete, and has taken no time."""
        self.state["complete"] = [done for done in self.state.get("complete", []) if done != name]
        self.state["seconds"].pop(name, None)

    def machine(self, precision: Precision, device: str) -> str:
        """What the chain was computed on; measured once, as the seconds are."""
        from chatwright.engine.machine import machine_line
        from chatwright.model.precision import pick_device, pick_dtype

        if "machine" not in self.state:
            chosen = pick_device(device)
            self.state["machine"] = machine_line(pick_dtype(precision, chosen), chosen)
            self._write()
        return str(self.state["machine"])

    def _write(self) -> None:
        from chatwright.engine.checkpoint import write_text

        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps(self.state, indent=1) + "\n")
