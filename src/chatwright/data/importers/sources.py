"""Files -> raw rows, each with its place: JSON lines, JSON arrays, CSV/TSV, XLSX, plain text; gzip throughout.

Spreadsheets are archives from strangers: bounded in size, ratio and entries, no document type declarations, first
sheet only, values only (no formulas are computed).
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
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
_DELIMITERS = ",;\t|"

RawRow = tuple[Where, Any]


def is_table(path: str | Path) -> bool:
    """Whether the file is a table with a header (CSV, TSV, XLSX)."""
    return any(suffix.lower() in (".csv", ".tsv", ".xlsx") for suffix in Path(path).suffixes[-2:])


def read_rows(path: str | Path) -> Iterator[RawRow]:
    """(place, value) per row; the value is a dict, a string, or a DataError for a row that cannot be read.

    DataError is raised for a file that cannot be read at all.
    """
    file = Path(path)
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if not file.is_file():
        raise DataError(f"{path}: there is no such file")
    if suffix == ".xlsx":
        return _xlsx(file)
    if suffix in (".csv", ".tsv"):
        return _csv(file)
    if suffix == ".txt":
        return _text(file)
    if suffix in (".json", ".jsonl", ".ndjson", ""):
        return _json_array(file) if _starts_as_array(file) else _json_lines(file)
    raise DataError(f"{path}: files ending in {suffix!r} are not read; use .jsonl, .json, .csv, .tsv, .xlsx or .txt")


def _text(path: Path) -> Iterator[RawRow]:
    for number, line in jsonl.read_text_lines(path):
        if isinstance(line, DataError) or line.strip():
            yield Where(path, number), line


def _json_lines(path: Path) -> Iterator[RawRow]:
    for number, line in jsonl.read_text_lines(path):
        where = Where(path, number)
        if isinstance(line, str):
            if not line.strip():
                continue
            try:
                yield where, jsonl.parse(line, where)
            except DataError as error:
                yield where, error
        else:
            yield where, line


def _starts_as_array(path: Path) -> bool:
    """Whether the file is one JSON array (and not lines that each happen to be one)."""
    with jsonl.open_bytes(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    one_line = start.split(b"\n", 1)[0].rstrip().endswith(b"]")
    return start.startswith(b"[") and (not one_line or re.match(rb"\[\s*\{", start) is not None)


def _json_array(path: Path) -> Iterator[RawRow]:
    text = _whole(path)
    decoder = json.JSONDecoder(parse_constant=jsonl.refuse_constant)
    position, line, counted = _skip(text, text.index("[") + 1), 1, 0
    while position < len(text) and text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        where = Where(path, line)
        try:
            value, end = decoder.raw_decode(text, position)
            jsonl.check(value)
        except RecursionError:
            raise where.error("item", f"is nested deeper than {jsonl.MAX_DEPTH} levels") from None
        except json.JSONDecodeError as error:
            raise DataError.at(path, error.lineno, "item", f"is not JSON: {error.msg}") from None
        except ValueError as error:
            if not str(error).startswith("holds"):  # NaN, or too deep: the end of the item is not known
                raise where.error("item", str(error)) from None
            value, end = where.error("item", str(error)), decoder.raw_decode(text, position)[1]
        yield where, value
        position = _skip(text, end)
        if position < len(text) and text[position] == ",":
            position = _skip(text, position + 1)
        elif position >= len(text) or text[position] != "]":
            raise where.error("item", "is not followed by a comma or the end of the array; the file may be cut off")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _whole(path: Path) -> str:
    with jsonl.open_bytes(path) as file:
        data = file.read(MAX_WHOLE_BYTES + 1)
    if len(data) > MAX_WHOLE_BYTES:
        raise DataError(f"{path}: is larger than {MAX_WHOLE_BYTES:,} bytes; use JSON lines, which are read one by one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if path.suffix.lower() != ".json":
            try:  # what spreadsheet programs write on a Chinese Windows
                return data.decode("gb18030")
            except UnicodeDecodeError:
                pass
        raise DataError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None


# ---- tables ------------------------------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[RawRow]:
    text = _whole(path)
    if "\0" in text:
        raise DataError(f"{path}: holds NUL bytes; this is no CSV file (UTF-16? save it as UTF-8)")
    first_line = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first_line.count)
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = ((Where(path, reader.line_num), cells) for cells in reader)
        yield from _table(path, rows)
    except csv.Error as error:
        raise DataError.at(path, reader.line_num, "row", f"is not CSV: {error}") from None


def _table(path: Path, rows: Iterator[tuple[Where, Sequence[Any]]]) -> Iterator[RawRow]:
    """Rows under a header as dicts; blank rows are skipped, blank cells left out."""
    header: list[str] | None = None
    for where, values in rows:
        cells = ["" if value is None else str(value) for value in values]
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(path, cells)
            continue
        if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            yield (
                where,
                where.error("row", f"has {len(cells)} cells, the header {len(header)}; quote cells with commas"),
            )
            continue
        try:
            row = {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip() and name}
            jsonl.check(row)
            yield where, row
        except ValueError as error:
            yield where, where.error("row", str(error))
    if header is None:
        raise DataError(f"{path}: is empty; the first row must name the columns")


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: has {len(names)} columns, more than {MAX_COLUMNS}")
    named = [name for name in names if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise DataError(f"{path}: two columns are named {twice!r}; name them apart")
    return names


def _xlsx(path: Path) -> Iterator[RawRow]:
    import openpyxl

    _check_archive(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheet = book.worksheets[0]
            rows = ((Where(path, n), list(cells)) for n, cells in enumerate(sheet.iter_rows(values_only=True), 1))
            yield from _table(path, rows)
        finally:
            book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises many kinds on damaged files
        raise DataError(f"{path}: is not a readable XLSX file ({type(error).__name__}: {error})") from None


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            packed = max(1, sum(entry.compress_size for entry in entries))
            if len(entries) > MAX_ARCHIVE_ENTRIES or size > MAX_WHOLE_BYTES:
                raise DataError(
                    f"{path}: unpacks to {size:,} bytes in {len(entries):,} files; too large, export it as CSV"
                )
            if size > 2**20 and size / packed > MAX_ARCHIVE_RATIO:
                raise DataError(
                    f"{path}: is packed {size // packed} to 1; this looks like a zip bomb, export it as CSV"
                )
            for entry in entries:
                if entry.filename.lower().endswith((".xml", ".rels")):
                    _check_xml(path, archive, entry)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: is not an XLSX file ({error})") from None


def _check_xml(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Entities can blow up or read files; spreadsheets need none."""
    tail = b""
    with archive.open(entry) as file:
        while chunk := file.read(2**16):
            if b"<!DOCTYPE" in tail + chunk or b"<!ENTITY" in tail + chunk:
                raise DataError(
                    f"{path}: {entry.filename} declares a document type, which a spreadsheet has no need of"
                )
            tail = chunk[-16:]
