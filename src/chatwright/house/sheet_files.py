"""Files of a sheet: the one of a folder, and its rows from JSON lines, CSV or XLSX.

A row that begins with `#` is a comment: a line of JSON lines, or a table's row whose id or only cell begins with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.tabular import encodings
from chatwright.tabular.hand_kept import workbook_rows
from chatwright.tabular.spreadsheets import RawRow, csv_rows

COLUMNS = ("id", "kind", "questions", "answers", "right", "wrong")
REQUIRED = ("questions", "answers")
SUFFIXES = (".jsonl", ".csv", ".xlsx")
LIST_SEPARATOR, TURN_SEPARATOR = " | ", " >> "
COMMENT_MARK = "#"
MAX_SHEET_BYTES = 64 * 2**20
_ENDINGS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"

SheetRow = tuple[Where, Mapping[str, Any] | DataError]


def find_sheet(folder: Path) -> Path:
    """The sheet of a folder, or the file itself. DataError when there is none, or more than one."""
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; `chatwright house init {folder}` makes one")
    named = sorted(path for path in folder.iterdir() if path.stem.lower() == "facts" and path.is_file())
    found = [path for path in named if path.suffix.lower() in SUFFIXES]
    if len(found) > 1:
        raise DataError(f"{folder}: holds {' and '.join(path.name for path in found)}; keep one sheet")
    if found:
        return found[0]
    if named:
        raise DataError(f"{named[0]}: a sheet is a {_ENDINGS} file; save it as one of these")
    raise DataError(f"{folder}: holds no facts.jsonl, facts.csv or facts.xlsx; `chatwright house init {folder}` writes one")


def is_table(path: Path) -> bool:
    """True for CSV and XLSX, whose cells hold lists as text."""
    return path.suffix.lower() != ".jsonl"


def sheet_rows(path: Path, encoding: str = "") -> Iterator[SheetRow]:
    """Rows with their location, comments left out; a bad row is a DataError value.

    DataError when the file cannot be read at all: encoding, size, header, macros, merged cells.
    """
    if encoding:
        encodings.checked_encoding(encoding)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: a sheet is a {_ENDINGS} file; save it as one of these")
    if suffix == ".xlsx":
        yield from _table(workbook_rows(path, _check_header))
        return
    with jsonl.open_bytes(path) as file:
        data = file.read(MAX_SHEET_BYTES + 1)
    if len(data) > MAX_SHEET_BYTES:
        raise DataError(f"{path}: is larger than {MAX_SHEET_BYTES:,} bytes; a sheet is a short list of facts")
    text = encodings.decoded(path, data, encoding)[0].removeprefix("\ufeff")
    if suffix == ".csv":
        yield from _table(csv_rows(text, path, _check_header))
    else:
        yield from _json_rows(text, path)


def _json_rows(text: str, path: Path) -> Iterator[SheetRow]:
    if text.lstrip().startswith("["):
        raise DataError(f"{path}: is one JSON array; write one fact a line, without the brackets")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith(COMMENT_MARK):
            continue
        where = Where(path, number)
        try:
            row = jsonl.parse(line, where)
        except DataError as error:
            row = DataError(str(error).partition("; a JSON array")[0])
        if isinstance(row, dict | DataError):
            yield where, row
        else:
            yield where, where.error("line", 'must be an object such as {"questions": [...], "answers": [...]}')


def _table(rows: Iterator[RawRow]) -> Iterator[SheetRow]:
    for where, row in rows:
        if isinstance(row, DataError):
            yield where, row
            continue
        cells = {name.strip().lower(): value for name, value in row.items()}
        is_comment = len(cells) == 1 and next(iter(cells.values())).lstrip().startswith(COMMENT_MARK)
        if not is_comment and not cells.get("id", "").lstrip().startswith(COMMENT_MARK):
            yield where, {name: _cell(name, value) for name, value in cells.items()}


def _cell(name: str, cell: str) -> Any:
    if name in ("id", "kind"):
        return cell.strip()
    entries = [entry.strip() for entry in cell.split(LIST_SEPARATOR.strip()) if entry.strip()]
    return [_turns(entry) for entry in entries] if name == "questions" else entries


def _turns(entry: str) -> str | list[str]:
    turns = [turn.strip() for turn in entry.split(TURN_SEPARATOR.strip())]
    return turns if len(turns) > 1 else turns[0]


def _check_header(where: Where, header: Sequence[str]) -> None:
    names = [name.strip().lower() for name in header]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise where.error(missing[0], f"this column is missing; the first row names the columns: {', '.join(COLUMNS)}")
    for name in names:
        if name and name not in COLUMNS:
            raise where.error(name, f"is no column of a sheet; the columns are {', '.join(COLUMNS)}")
        if name and names.count(name) > 1:
            raise where.error(name, "this column is there twice; remove one")
