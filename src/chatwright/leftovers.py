"""Removal of what a failed command leaves at `--out`: empty folders and settings without a result."""

from __future__ import annotations

import contextlib
import glob
import shutil
from pathlib import Path

_SETTINGS = frozenset({"config.toml", "settings.toml", "inputs.json", "plan.json"})
_RECORD = ".inputs.json"


class Leftovers:
    """Remembers what was at an output before a command; `remove` deletes what the failed command made and did not fill.

    Folders that existed before are not touched. Training runs hold a `.lock` and remove their folder themselves
    (engine.run).
    """

    def __init__(self, out: str) -> None:
        """`out`: the value of `--out`; empty: nothing is removed."""
        self._out = Path(out) if out else None
        self._missing: list[Path] = []
        if self._out is not None:
            record = self._out.with_name(self._out.name + _RECORD) if self._out.name else self._out
            with contextlib.suppress(OSError, ValueError):
                self._missing = [path for path in (record, self._out, *self._out.parents) if not path.exists()]

    def remove(self) -> None:
        """Delete folders that hold settings only, the record of inputs of a file that was not written, and empty parents."""
        with contextlib.suppress(OSError):
            for path in self._missing:
                if path.name.endswith(_RECORD) and path.is_file():
                    self._remove_record(path)
                elif path == self._out and path.is_dir() and _holds_settings_only(path):
                    shutil.rmtree(path)
                elif path.is_dir():
                    path.rmdir()

    def _remove_record(self, record: Path) -> None:
        name = glob.escape(record.name.removesuffix(_RECORD))
        others = {*record.parent.glob(f"{name}*"), *record.parent.glob(f".{name}*")} - {record}
        if not others:
            record.unlink()


def _holds_settings_only(folder: Path) -> bool:
    return all(path.is_dir() or path.name in _SETTINGS for path in folder.rglob("*"))
