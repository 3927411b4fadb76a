"""CSV, TSV and XLSX -> rows under a header, each with its place.

Spreadsheets are archives from strangers: bounded in size, ratio and entries, no document type declarations, first
sheet only, values only (no formulas are computed, no macros are run).
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.jsonl import Where

MAX_WHOLE_BYTES = 512 * 2**20
MAX_ARCHIVE_ENTRIES = 10_000
MAX_ARCHIVE_RATIO = 200
MAX_CELL_CHARS = 4 * 2**20
MAX_COLUMNS = 1_000
_END = "\x1e\x1eend of the table\x1e\x1e"
"""A last row, alone in its row unless a quote before it is open."""
_DELIMITERS = ",;\t|"
_ERRORS = frozenset("#N/A #REF! #VALUE! #DIV/0! #NAME? #NULL! #NUM! #SPILL! #CALC! #FIELD! #BLOCKED! #GETTING_DATA".split())
"""Texts of cells whose formula has no result."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")

RawRow = tuple[Where, Any]
HeaderCheck = Callable[[Where, Sequence[str]], None]
"""Called with the names of the columns before the first row; raises DataError for a table of another kind."""


class BadCell(str):
    """A cell without a usable text. Its row becomes a DataError with this reason."""


def csv_rows(text: str, shown: str | Path, check_header: HeaderCheck | None = None) -> Iterator[RawRow]:
    """Rows of CSV text. The delimiter is the one that makes most cells of the header, unless a line `sep=;` names it."""
    if "\0" in text:
        raise DataError(f"{shown}: holds NUL bytes; this is no CSV file (UTF-16 without a byte order mark? name --encoding)")
    named = re.match(r'"?sep=(.)"?\r?\n', text)
    start = named.end() if named else 0
    csv.field_size_limit(MAX_CELL_CHARS)
    delimiter = named[1] if named else max(_DELIMITERS, key=lambda sign: _num_cells(text, sign))
    reader = csv.reader(io.StringIO(f"{text[start:]}\n{_END}", newline=""), delimiter=delimiter)
    try:
        yield from table_rows(shown, _closed_rows(reader, shown, skipped=1 if named else 0), check_header)
    except csv.Error as error:
        raise DataError.at(shown, reader.line_num, "row", f"is not CSV: {error}") from None


def _closed_rows(reader: Any, shown: str | Path, skipped: int) -> Iterator[tuple[Where, Sequence[str]]]:
    """The rows of a csv.reader; DataError for a quote without its end, which takes the rest of the file into one cell."""
    line = 0
    for cells in reader:
        if cells == [_END]:
            return
        if cells and cells[-1].endswith(_END):
            raise DataError.at(
                shown, line + 1 + skipped, "row", "opens a quote that is never closed; close it, or double it inside a cell"
            )
        line = reader.line_num
        yield Where(shown, line + skipped), cells


def _num_cells(text: str, delimiter: str) -> int:
    """Cells of the first row that is not blank."""
    reader = csv.reader(io.StringIO(text[: 2**20], newline=""), delimiter=delimiter)
    try:
        return next((len(cells) for cells in reader if any(cell.strip() for cell in cells)), 0)
    except csv.Error:
        return 0


def table_rows(
    path: str | Path, rows: Iterator[tuple[Where, Sequence[Any]]], check_header: HeaderCheck | None = None
) -> Iterator[RawRow]:
    """Rows under a header as dicts; blank rows are skipped, blank cells left out."""
    header: list[str] | None = None
    for where, values in rows:
        cells = ["" if value is None else _plain(value) for value in values]
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells)
            if check_header is not None:
                check_header(where, header)
            continue
        if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            yield (
                where,
                where.error("row", f"has {len(cells)} cells, the header {len(header)}; quote cells with commas"),
            )
            continue
        row = {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}
        if "" in row:
            named = ", ".join(name for name in header if name)
            reason = f"has text in a column without a name ({row[''][:40]!r}); the first row must name all (it has: {named})"
            yield where, where.error("row", reason)
            continue
        if bad := next((name for name, cell in row.items() if isinstance(cell, BadCell)), None):
            yield where, where.error(bad, str(row[bad]))
            continue
        if wrong := next((name for name, cell in row.items() if cell.strip() in _ERRORS), None):
            yield where, where.error(wrong, f"is the spreadsheet's error {row[wrong].strip()}, no text")
            continue
        try:
            jsonl.check(row)
            yield where, row
        except ValueError as error:
            yield where, where.error("row", str(error))
    if header is None:
        raise DataError(f"{path}: is empty; the first row must name the columns")


def _plain(value: Any) -> str:
    """A cell as text with LF line ends, as JSON lines have them."""
    return value if isinstance(value, BadCell) else str(value).replace("\r\n", "\n").replace("\r", "\n")


def _header(path: str | Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: has {len(names)} columns, more than {MAX_COLUMNS}")
    named = [name for name in names if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise DataError(f"{path}: two columns are named {twice!r}; name them apart")
    return names


def xlsx_rows(path: Path, shown: str | Path) -> Iterator[RawRow]:
    """Rows of a workbook's first sheet."""
    import openpyxl

    check_archive(path, shown)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet: Any = book.worksheets[0]
            if (strings := shared_strings(path)) is not None:
                sheet._shared_strings = strings
            numbered = enumerate(sheet.iter_rows(), start=1)
            yield from table_rows(shown, ((Where(shown, n), [cell_value(c) for c in cells]) for n, cells in numbered))
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files
        raise DataError(f"{shown}: is not a readable XLSX file ({type(error).__name__}: {error})") from None


def shared_strings(path: Path) -> list[str] | None:
    """The texts of a workbook as stored. openpyxl drops the sign that tells a written `_x000D_` from an escaped one."""
    from openpyxl.cell.text import Text
    from openpyxl.xml.functions import iterparse

    with zipfile.ZipFile(path) as archive:
        if "xl/sharedStrings.xml" not in archive.namelist():
            return None
        with archive.open("xl/sharedStrings.xml") as file:
            nodes = (node for _, node in iterparse(file) if node.tag.endswith("}si"))
            return [Text.from_tree(node).content for node in nodes]


def cell_value(cell: Any) -> Any:
    """A cell's value; `_x000D_` and the like, with which XLSX stores control characters, become those characters."""
    value = cell.value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), value) if isinstance(value, str) else value


def check_archive(path: Path, shown: str | Path) -> None:
    """DataError when a file is no archive, or one that is too large, packed too well, or declares a document type."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            packed = max(1, sum(entry.compress_size for entry in entries))
            if len(entries) > MAX_ARCHIVE_ENTRIES or size > MAX_WHOLE_BYTES:
                raise DataError(f"{shown}: unpacks to {size:,} bytes in {len(entries):,} files; too large, export it as CSV")
            if size > 2**20 and size / packed > MAX_ARCHIVE_RATIO:
                raise DataError(f"{shown}: is packed {size // packed} to 1; this looks like a zip bomb, export it as CSV")
            for entry in entries:
                if entry.filename.lower().endswith((".xml", ".rels")):
                    _check_xml(shown, archive, entry)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{shown}: is not an XLSX file ({error})") from None


def _check_xml(path: str | Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Entities can blow up or read files; spreadsheets need none."""
    tail = b""
    with archive.open(entry) as file:
        while chunk := file.read(2**16):
            if b"<!DOCTYPE" in tail + chunk or b"<!ENTITY" in tail + chunk:
                raise DataError(f"{path}: {entry.filename} declares a document type, which a spreadsheet has no need of")
            tail = chunk[-16:]
