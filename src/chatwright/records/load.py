"""Files of records -> lists, with every bad row counted and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.records.kinds import Demonstration, Prompt
from chatwright.records.ranking import Ranking

SHOWN_BAD_ROWS = 5
Record = TypeVar("Record")
Paths = str | Path | Sequence[str | Path]


def load_prompts(paths: Paths, *, bad: list[DataError] | None = None) -> list[Prompt]:
    """All prompts of the files. See `load_rows` for bad rows."""
    return load_rows(paths, Prompt.from_dict, bad=bad)


def load_demonstrations(paths: Paths, *, bad: list[DataError] | None = None) -> list[Demonstration]:
    """All demonstrations of the files. See `load_rows` for bad rows."""
    return load_rows(paths, Demonstration.from_dict, bad=bad)


def load_rankings(paths: Paths, *, bad: list[DataError] | None = None) -> list[Ranking]:
    """All rankings of the files. See `load_rows` for bad rows."""
    return load_rows(paths, Ranking.from_dict, bad=bad)


def load_rows(
    paths: Paths, read: Callable[[Mapping[str, Any], Where], Record], *, bad: list[DataError] | None = None
) -> list[Record]:
    """Read every row of JSON-lines files (plain or gzip) with `read`.

    Bad rows: with a list in `bad` they are appended there and left out; without one, a single DataError counts
    them all and shows the first five. No usable row in the files is an error either way (no files: no rows).
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[Record] = []
    errors: list[DataError] = []
    for path in files:
        for line, row in jsonl.read_lines(path):
            try:
                if isinstance(row, DataError):
                    raise row
                found.append(read(row, Where(path, line)))
            except DataError as error:
                errors.append(error)
    if errors and bad is None:
        raise bad_rows_error(errors, used=len(found))
    if not found and files:
        names = ", ".join(str(path) for path in files)
        raise bad_rows_error(errors, used=0) if errors else DataError(f"{names}: there are no rows; nothing to read")
    if bad is not None:
        bad.extend(errors)
    return found


def bad_rows_error(errors: Sequence[DataError], *, used: int) -> DataError:
    """One message for many bad rows: their number, the first five, what to do."""
    shown = "\n".join(f"  {error}" for error in errors[:SHOWN_BAD_ROWS])
    more = f"\n  ... and {len(errors) - SHOWN_BAD_ROWS} more" if len(errors) > SHOWN_BAD_ROWS else ""
    rows = "row is" if len(errors) == 1 else "rows are"
    return DataError(
        f"{len(errors)} {rows} not usable ({used} good):\n{shown}{more}\n"
        "Mend or remove them; `chatwright data check FILE` lists them, `chatwright data import` reads other formats."
    )
