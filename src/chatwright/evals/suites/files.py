"""Rows of the public formats: CSV and TSV with a header, JSON lines, JSON arrays, plain text. One message per bad file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chatwright.errors import DataError
from chatwright.jsonl import Where, open_bytes, parse, read_jsonl, read_text_lines

MAX_BYTES = 256 * 2**20


def read_table(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[Where, dict[str, str]]]:
    """Rows of a CSV or TSV file by column name. DataError names the columns that are missing, or the row that is short."""
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=delimiter == ",")
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in columns if name not in header]
        if missing:
            found = ", ".join(header[:8]) or "nothing"
            raise DataError.at(path, 1, "columns", f"{', '.join(missing)} missing; found: {found}. Use the public file")
        for cells in reader:
            where = Where(path, reader.line_num)
            if cells and len(cells) < len(header):
                raise where.error("columns", f"{len(cells)} cells, the header has {len(header)}")
            if cells:
                yield where, dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise DataError.at(path, None, "CSV", f"{error}; use the public file as it is") from None


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, plain or gzip. DataError when it is neither, or larger than 256 MiB."""
    with open_bytes(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError.at(path, None, "size", f"more than {MAX_BYTES >> 20} MiB; an evaluation set is smaller")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError.at(path, None, "text", f"is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def read_objects(path: Path) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Objects of a JSON-lines file, or of a file that holds one JSON array."""
    if path.suffix != ".json":
        for line, row in read_jsonl(path):
            yield Where(path, line), row
        return
    rows = parse(read_text(path), Where(path, None))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError.at(path, None, "JSON", "must be an array of objects")
    for number, row in enumerate(rows, start=1):
        yield Where(f"{path}: row {number}", None), row


def read_lines_of_text(path: Path) -> Iterator[tuple[Where, str]]:
    """Lines of a text file that are not blank."""
    for number, line in read_text_lines(path):
        if isinstance(line, DataError):
            raise line
        if line.strip():
            yield Where(path, number), line.strip()


def texts(where: Where, value: Any, name: str, at_least: int = 1) -> list[str]:
    """`value` if it is a list of at least that many texts."""
    found = [where.text(entry, name) for entry in where.list(value, name)]
    if len(found) < at_least:
        raise where.error(name, f"has {len(found)} texts; at least {at_least} are needed")
    return found


def number_below(where: Where, value: Any, name: str, limit: int) -> int:
    """`value` (a number or its digits) if it is an index below `limit`."""
    index = int(value) if isinstance(value, str) and value.isdecimal() else value
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < limit:
        raise where.error(name, f"must be a whole number from 0 to {limit - 1}, not {str(value)[:30]!r}")
    return index
