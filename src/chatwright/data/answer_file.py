"""A JSON-lines file of answers, one row per prompt, that grows by whole chunks: an unfinished one is continued."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatwright.errors import DataError


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows in the file; a torn last line (killed while writing) is cut off. DataError for a line that is no row."""
    if not path.exists():
        return []
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if len(kept) != len(whole):
        path.write_bytes(kept)
    return [_row(path, number, line) for number, line in enumerate(kept.splitlines(), start=1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise DataError.at(path, number, "line", "is no row of this command; use another --out or remove the file")
    return row


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append whole rows and flush them to the disk."""
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())
