"""Files -> units of work -> documents. A unit is a few megabytes of unparsed input, small enough to send to a worker.

Formats: text, JSON lines, Parquet; text and JSON lines also packed as .gz or .zst; folders (searched through), globs, and
`-` for standard input. What is not readable is a value (`DataError`) in the row's place, so that it is counted, not fatal.
"""

from __future__ import annotations

import glob
import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from chatwright import jsonl
from chatwright.data.corpus_build.packed import open_input
from chatwright.errors import DataError
from chatwright.jsonl import Where

Documents = Literal["file", "paragraph", "line"]
STDIN = "-"
UNIT_BYTES = 4 * 2**20
LONGEST_DOCUMENT_BYTES = 16 * 2**20
_PACKED = (".gz", ".zst")
_JSON = (".jsonl", ".ndjson", ".json")
_TEXT = (".txt", ".text", ".md", ".rst")
_PARQUET_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class RawDocument:
    """A text as it stands in its file."""

    text: str
    place: str
    """`file:line` (or row), for examples of what was dropped."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of one input, enough to make its documents from."""

    path: str
    kind: Literal["text", "jsonl", "parquet"]
    numbers: tuple[int, ...]
    """The line each row begins at (of Parquet: the row group)."""
    rows: tuple[bytes, ...]
    """Lines of JSON, or texts; empty for Parquet, which a worker reads itself."""
    read_bytes: int
    """Bytes of the file on disk that this unit took: for progress."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file to read."""

    path: Path
    kind: Literal["text", "jsonl", "parquet"]
    size: int

    @property
    def is_stdin(self) -> bool:
        """Whether this is standard input, which can be read only once."""
        return str(self.path) == STDIN


def inputs(names: Sequence[str]) -> list[Input]:
    """What the names on the command line stand for, folders searched through, in the order of the names and each
    folder by path. DataError for what is absent or of no use."""
    found: list[Input] = []
    for name in names:
        if name == STDIN:
            found.append(Input(path=Path(STDIN), kind="text", size=0))
            continue
        path = Path(name).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _kind_by_name(file))
            if not files:
                raise DataError(f"{path}: holds no {', '.join((*_TEXT, *_JSON, '.parquet'))} file (also as .gz or .zst)")
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(hit) for hit in glob.glob(str(path), recursive=True) if Path(hit).is_file())
            if not files:
                raise DataError(f"{path}: there is no such file or folder")
        found += [_input(file) for file in files]
    return list({str(one.path): one for one in found}.values())


def _input(file: Path) -> Input:
    try:
        about = file.stat()
        kind = _kind_by_name(file) or _kind_by_content(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    return Input(path=file, kind=kind, size=about.st_size)


def _kind_by_name(file: Path) -> Literal["text", "jsonl", "parquet"] | None:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last == ".parquet":
        return "parquet"
    return "jsonl" if last in _JSON else "text" if last in _TEXT else None


def _kind_by_content(file: Path) -> Literal["text", "jsonl", "parquet"]:
    with open_input(file) as content:
        head = content.read(512)
    if head[:4] == b"PAR1":
        return "parquet"
    return "jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "text"


def units(source: Input, documents: Documents) -> Iterator[Unit]:
    """The units of one input, in order; memory stays at some megabytes whatever its size. DataError when the file itself
    is unusable (damaged packing, no Parquet)."""
    if source.kind == "parquet":
        yield from _parquet_units(source)
        return
    with open_input(source.path) if not source.is_stdin else _stdin() as content:
        kind = source.kind
        if source.is_stdin:
            kind = "jsonl" if content.peek(512).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "text"  # type: ignore[attr-defined]
        rows = _lines(content, source.path) if kind == "jsonl" else _texts(content, documents)
        yield from _packs(rows, source, kind, content)


def batches(sources: Sequence[Input], documents: Documents) -> Iterator[tuple[Unit, ...]]:
    """Units of all inputs put together to some megabytes, so that many small files are not much work each."""
    some: list[Unit] = []
    size = 0
    for source in sources:
        for unit in units(source, documents):
            some.append(unit)
            # What a row group holds is not known before it is read.
            size += UNIT_BYTES if unit.kind == "parquet" else sum(map(len, unit.rows))
            if size >= UNIT_BYTES:
                yield tuple(some)
                some, size = [], 0
    if some:
        yield tuple(some)


def _stdin() -> BinaryIO:
    return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))


def _packs(
    rows: Iterator[tuple[int, bytes]], source: Input, kind: Literal["text", "jsonl"], content: BinaryIO
) -> Iterator[Unit]:
    """Rows put together to units of `UNIT_BYTES`."""
    some: list[tuple[int, bytes]] = []
    size, at = 0, 0

    def unit(now: int) -> Unit:
        numbers, texts = zip(*some, strict=True)
        return Unit(path=str(source.path), kind=kind, numbers=numbers, rows=texts, read_bytes=now - at)

    for number, row in rows:
        some.append((number, row))
        size += len(row)
        if size >= UNIT_BYTES:
            now = _position(content)
            yield unit(now)
            some, size, at = [], 0, now
    if some:
        yield unit(_position(content))


def _position(content: BinaryIO) -> int:
    """Bytes of the file on disk read so far."""
    place: Any = getattr(getattr(content, "raw", None), "packed_position", None)
    try:
        return int(place()) if place is not None else content.tell()
    except OSError:  # a pipe
        return 0


def _lines(content: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := content.readline(jsonl.MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > jsonl.MAX_LINE_BYTES:
            raise DataError.at(path, number, "line", f"is longer than {jsonl.MAX_LINE_BYTES:,} bytes")
        yield number, line.rstrip(b"\r\n")


def _texts(content: BinaryIO, documents: Documents) -> Iterator[tuple[int, bytes]]:
    """Texts with the number of their first line. A document longer than `LONGEST_DOCUMENT_BYTES` is cut at a line end
    (or, when it has none, at a character)."""
    some: list[bytes] = []
    size, first, number = 0, 1, 1
    rest = b""  # the beginning of a character that a cut would tear
    at_once = LONGEST_DOCUMENT_BYTES - 3
    while part := content.readline(at_once):
        line = rest + part
        torn = _torn(line) if len(part) == at_once else 0
        line, rest = line[: len(line) - torn], line[len(line) - torn :]
        blank = not line.strip()
        ends = documents == "line" or (documents == "paragraph" and blank) or size + len(line) > LONGEST_DOCUMENT_BYTES
        if ends and some:
            yield first, b"".join(some)
            some, size = [], 0
        if not blank or documents == "file":
            first = first if some else number
            some.append(line)
            size += len(line)
        number += part.endswith(b"\n")
    if some or rest:
        yield first, b"".join([*some, rest])


def _torn(line: bytes) -> int:
    """How many bytes at the end belong to a character whose rest is missing (0..3)."""
    for back in range(1, 4):
        byte = line[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < needed else 0
        if byte < 0x80:
            return 0
    return 0


# ---- Parquet -----------------------------------------------------------------------------------------------


def _parquet(path: str | Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'chatwright[parquet]'") from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise DataError(f"{path}: is no readable Parquet file: {str(error)[:200]}") from None


def _parquet_units(source: Input) -> Iterator[Unit]:
    with _parquet(source.path) as file:
        num = file.num_row_groups
    for group in range(num):
        share = source.size * (group + 1) // num - source.size * group // num
        yield Unit(path=str(source.path), kind="parquet", numbers=(group,), rows=(), read_bytes=share)


def _parquet_rows(unit: Unit, text_field: str) -> Iterator[tuple[int, Any]]:
    with _parquet(unit.path) as file:
        if text_field not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names[:20])
            raise DataError(f"{unit.path}: has no column {text_field!r} (it has {names}); name it with --text-field")
        (group,) = unit.numbers
        number = sum(file.metadata.row_group(n).num_rows for n in range(group))
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=[text_field]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield number, value
        except (OSError, ValueError) as error:
            raise DataError(f"{unit.path}: row group {group} cannot be read: {str(error)[:200]}") from None


# ---- documents ---------------------------------------------------------------------------------------------


def documents(unit: Unit, text_field: str) -> Iterator[RawDocument | DataError]:
    """The documents of a unit, in order; a row that is of no use is an error value. Blank lines of JSON are nothing."""
    if unit.kind == "text":
        for number, row in zip(unit.numbers, unit.rows, strict=True):
            yield _decoded(row, Where(unit.path, number))
        return
    rows = _parquet_rows(unit, text_field) if unit.kind == "parquet" else _json_rows(unit, text_field)
    for number, value in rows:
        yield value if isinstance(value, DataError) else _document(value, text_field, Where(unit.path, number))


def _json_rows(unit: Unit, text_field: str) -> Iterator[tuple[int, Any]]:
    for number, line in zip(unit.numbers, unit.rows, strict=True):
        if not line.strip():
            continue
        where = Where(unit.path, number)
        text = _decoded(line, where)
        if isinstance(text, DataError):
            yield number, text
            continue
        try:
            row = jsonl.parse(text.text, where)
        except DataError as error:
            yield number, error
            continue
        if not isinstance(row, dict):
            yield number, where.error("line", "must be a JSON object")
        elif text_field not in row:
            names = ", ".join(sorted(row)[:20]) or "no fields"
            yield number, where.error(text_field, f"is missing (the row has {names}); name the field with --text-field")
        else:
            yield number, row[text_field]


def _decoded(data: bytes, where: Where) -> RawDocument | DataError:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return where.error("text", f"is not UTF-8 at byte {error.start}; save it as UTF-8")
    return RawDocument(text=text.removeprefix("\ufeff"), place=f"{where.path}:{where.line}")


def _document(value: Any, text_field: str, where: Where) -> RawDocument | DataError:
    """A text, or a list of texts joined by line ends."""
    try:
        if isinstance(value, list):
            value = "\n".join(where.text(part, f"{text_field}[{n}]") for n, part in enumerate(value))
        return RawDocument(text=where.text(value, text_field), place=f"{where.path}:{where.line}")
    except DataError as error:
        return error


def hashes(names: Sequence[str | Path]) -> list[str]:
    """sha256 of each file, hex: what tells inputs from others, whatever their names and dates. Empty for standard input.
    DataError for a file that cannot be read."""
    found = []
    for name in names:
        if str(name) == STDIN:
            found.append("")
            continue
        try:
            with open(name, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{name}: cannot be read: {error.strerror}") from None
    return found


def digest(value: str) -> str:
    """sha256 of a text, hex."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
