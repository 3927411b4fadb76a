"""Files -> raw rows, each with its place: JSON lines, JSON arrays and objects, CSV, TSV, XLSX, plain text; gzip
throughout."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatwright import jsonl
from chatwright.data.importers.streams import holding, is_stream, spooled
from chatwright.errors import DataError
from chatwright.jsonl import Where
from chatwright.tabular import encodings, spreadsheets
from chatwright.tabular.spreadsheets import RawRow

_SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".xlsx", ".txt")
_WRAPPERS = ("data", "rows", "records", "examples", "items", "train", "dataset", "samples", "entries", "conversations")
"""Fields of a JSON object that hold the rows of a file."""
_PROBE_BYTES = 2**20


@dataclass(frozen=True)
class Source:
    """The rows of a file. A value is a dict, a text, or a DataError for a row that cannot be read."""

    rows: Iterator[RawRow]
    is_table: bool = False
    """A table with a header: CSV, TSV, XLSX."""
    encoding: str = ""
    """Encoding of its text; empty for a workbook."""


def open_source(path: str | Path, encoding: str = "", shown: str | Path = "") -> Source:
    """Open a file of rows. `encoding`: declared by the user; `shown`: its name in messages.

    Standard input (`-`) and pipes are read whole into a temporary file first. DataError is raised for a file that cannot be
    read at all, here or while its rows are read.
    """
    if is_stream(path):
        spool = spooled(path)
        source = open_source(spool.name, encoding, shown or path)
        return replace(source, rows=holding(spool, source.rows))
    file, name = Path(path), shown or path
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if encoding:
        encodings.checked_encoding(encoding)
    if not file.is_file():
        reason = "is a folder; name the files in it" if file.is_dir() else "there is no such file"
        reason = "is a device; save what it gives to a file" if file.exists() and not file.is_dir() else reason
        raise DataError(f"{name}: {reason}")
    if suffix == ".xlsx":
        return Source(spreadsheets.xlsx_rows(file, name), is_table=True)
    if suffix in (".csv", ".tsv"):
        text, encoding = encodings.decoded(name, _whole(file, name), encoding)
        return Source(spreadsheets.csv_rows(text.removeprefix("\ufeff"), name), is_table=True, encoding=encoding)
    if suffix not in _SUFFIXES and suffix != "":
        raise DataError(f"{name}: files ending in {suffix!r} are not read; use {', '.join(_SUFFIXES)}")
    return _text_source(file, name, encoding, plain=suffix == ".txt")


def _text_source(file: Path, name: str | Path, encoding: str, *, plain: bool) -> Source:
    with jsonl.open_bytes(file) as opened:
        probe = opened.read(_PROBE_BYTES)
        rest = opened.read(1)
    known = encodings.encoding_of(probe if not rest else probe[: probe.rfind(b"\n") + 1] or probe, encoding)
    if known in (None, "utf-8", "utf-8-sig"):  # line by line; a line that is not UTF-8 is one bad row
        known = known or "utf-8"
        shape = "" if plain else _shape(probe, known)
        if not shape:
            lines = _utf8_lines(file, name)
            return Source(_plain_lines(lines, name) if plain else _json_lines(lines, name), encoding="utf-8")
    text, known = encodings.decoded(name, _whole(file, name), encoding or known)
    text = text.removeprefix("\ufeff")
    shape = "" if plain else _shape(text[:_PROBE_BYTES].encode("utf-8", "replace"), "utf-8")
    if shape == "array":
        return Source(_array_rows(text, name), encoding=known)
    if shape == "object":
        return Source(_object_rows(text, name), encoding=known)
    lines = iter(list(enumerate(text.splitlines(), start=1)))
    return Source(_plain_lines(lines, name) if plain else _json_lines(lines, name), encoding=known)


def _shape(start: bytes, encoding: str) -> str:
    """`array` or `object` for a file that is one JSON value; empty for JSON lines."""
    head = start.decode(encoding, "replace").removeprefix("\ufeff").lstrip()
    first, _, others = head.partition("\n")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):  # also integers of thousands of digits
        value = None
    if head.startswith("["):
        is_row = isinstance(value, list) and not (value and isinstance(value[0], dict))
        return "" if is_row and others.strip() else "array"
    if head.startswith("{") and not others.strip():
        return "object" if isinstance(value, dict) and _holds_rows(value) else ""
    return "object" if first.rstrip() == "{" or (value is None and _opens_object(first)) else ""


def _holds_rows(value: dict[str, Any]) -> bool:
    """True when an object in one line is a file of rows, not one row."""
    lists = [value[name] for name in _WRAPPERS if isinstance(value.get(name), list)]
    wrapped = any(items and isinstance(items[0], dict) and not {"role", "from"} & set(items[0]) for items in lists)
    return wrapped or _records(value) != [value]


def _opens_object(line: str) -> bool:
    """True when a line begins an object that continues on the next ones: `{"version": "1",`."""
    return line.startswith("{") and line.rstrip().endswith((",", "[", "{"))


Lines = Iterator[tuple[int, str | DataError]]


def _utf8_lines(file: Path, name: str | Path) -> Lines:
    shown = False
    for number, line in jsonl.read_line_bytes(file):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            hint = "save it as UTF-8, or name its encoding with --encoding" if shown else encodings.readings(line)
            yield number, DataError.at(name, number, "line", f"is not UTF-8 at byte {error.start}; {hint}")
            shown = True


def _plain_lines(lines: Lines, name: str | Path) -> Iterator[RawRow]:
    for number, line in lines:
        if isinstance(line, DataError) or line.strip():
            yield Where(name, number), line


def _json_lines(lines: Lines, name: str | Path) -> Iterator[RawRow]:
    for number, line in lines:
        where = Where(name, number)
        if isinstance(line, str):
            if not line.strip():
                continue
            try:
                yield where, jsonl.parse(line, where)
            except DataError as error:
                yield where, DataError(str(error).partition("; a JSON array over many lines")[0])
        else:
            yield where, line


def _array_rows(text: str, name: str | Path) -> Iterator[RawRow]:
    """The rows of a file that is one JSON array."""
    end = yield from _array_items(text, text.index("[") + 1, name)
    if _skip(text, end) < len(text):
        line = 1 + text.count("\n", 0, _skip(text, end))
        raise DataError.at(name, line, "array", "is followed by more text; one file holds one array, or an object a line")


def _array_items(text: str, position: int, name: str | Path) -> Generator[RawRow, None, int]:
    """The items of the JSON array whose `[` ends at `position`; returns the position behind its `]`."""
    line, counted = 1 + text.count("\n", 0, position), position
    position = _skip(text, position)
    while position < len(text) and text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        where = Where(name, line)
        value, end = _value(text, position, where)
        yield where, value
        position = _skip(text, end)
        if position < len(text) and text[position] == ",":
            position = _skip(text, position + 1)
        elif position >= len(text) or text[position] != "]":
            raise where.error("item", "is not followed by a comma or the end of the array; the file may be cut off")
    if position >= len(text):
        raise DataError.at(name, 1 + text.count("\n"), "array", "has no end; the file is cut off")
    return position + 1


def _value(text: str, position: int, where: Where) -> tuple[Any, int]:
    """(JSON value or the DataError of an unusable one, where it ends)."""
    decoder = json.JSONDecoder(parse_constant=jsonl.refuse_constant)
    try:
        value, end = decoder.raw_decode(text, position)
        jsonl.check(value)
    except RecursionError:
        raise where.error("item", f"is nested deeper than {jsonl.MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise DataError.at(where.path, error.lineno, "item", f"is not JSON: {error.msg}") from None
    except ValueError as error:
        if not str(error).startswith("holds"):  # NaN, or too deep: the end of the item is not known
            raise where.error("item", jsonl.reason(error)) from None
        return where.error("item", str(error)), decoder.raw_decode(text, position)[1]
    return value, end


def _object_rows(text: str, name: str | Path) -> Iterator[RawRow]:
    """The rows of a file that is one JSON object: a list in one of its fields, a table by columns or index, or one row."""
    found: dict[str, Any] = {}
    rows_in = ""  # the field whose list is the file's rows
    position = _skip(text, text.index("{") + 1)
    while position < len(text) and text[position] == '"':
        where = Where(name, 1 + text.count("\n", 0, position))
        key, end = _value(text, position, where)
        position = _skip(text, end)
        if text[position : position + 1] != ":":
            raise where.error("object", f"has no value for {key!r}")
        position = _skip(text, position + 1)
        start = _skip(text, position + 1)
        opens = text[position : position + 1] == "[" and text[start : start + 1] == "{"
        if opens and (
            rows_in or (str(key) in _WRAPPERS and "columns" not in found and not _is_chat(text, start, where))
        ):
            items = _array_items(text, position + 1, name)
            end = yield from _list_of_rows(items, str(key), rows_in)
            rows_in = rows_in or str(key)
        else:
            found[str(key)], end = _value(text, position, where)
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
    if text[position : position + 1] != "}" or text[_skip(text, position + 1) :]:
        line = 1 + text.count("\n", 0, position)
        raise DataError.at(
            name, line, "object", "is not complete, or something stands behind it; rows are lines or an array"
        )
    if rows_in:
        return
    for n, row in enumerate(_records(found), start=1):
        yield Where(name, n if len(found) > 1 else 1), row


def _list_of_rows(
    items: Generator[RawRow, None, int], key: str, rows_in: str
) -> Generator[RawRow, None, int]:
    """The rows of one list of an object; those of a second list are damaged rows, as they may be another split."""
    while True:
        try:
            where, value = next(items)
        except StopIteration as end:
            return int(end.value)
        if rows_in:
            value = where.error(key, f"is a second list of rows beside {rows_in!r}; save it as a file by itself")
        yield where, _unwrapped(value)


def _is_chat(text: str, start: int, where: Where) -> bool:
    """True when a list of objects is the conversation of one row."""
    first = _value(text, start, where)[0]
    return isinstance(first, dict) and bool({"role", "from"} & set(first))


def _unwrapped(value: Any) -> Any:
    """A row of the datasets server: `{"row_idx", "row"}`."""
    inside = value.get("row") if isinstance(value, dict) and "row_idx" in value else None
    return inside if isinstance(inside, dict) else value


def _records(found: dict[str, Any]) -> list[Any]:
    """The rows of a table as pandas and datasets write it: by column, by index, or split; else the object is the row."""
    values = list(found.values())
    columns, data = found.get("columns"), found.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(cells, list) for cells in data):
        return [dict(zip(map(str, columns), cells, strict=False)) for cells in data]
    if values and all(isinstance(value, dict) for value in values):
        keys = [list(value) for value in values]
        if keys[0] and keys[0][0].isdigit() and all(one == keys[0] for one in keys):
            return [{name: found[name][key] for name in found} for key in keys[0]]
        if all(name.isdigit() for name in found):
            return values
    if len(found) > 1 and all(isinstance(value, list) and value for value in values):
        same = len({len(value) for value in values}) == 1
        if same and all(isinstance(item, str | int | float | None) for value in values for item in value):
            return [dict(zip(found, cells, strict=True)) for cells in zip(*values, strict=True)]
    return [found]


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _whole(path: Path, name: str | Path) -> bytes:
    with jsonl.open_bytes(path) as file:
        data = file.read(spreadsheets.MAX_WHOLE_BYTES + 1)
    if len(data) > spreadsheets.MAX_WHOLE_BYTES:
        raise DataError(
            f"{name}: is larger than {spreadsheets.MAX_WHOLE_BYTES:,} bytes; use JSON lines, which are read one by one"
        )
    return data
