"""JSON lines on disk: read with file, line, field and reason for every bad row; written all or nothing.

Foreign files are met with limits: gzip bombs, over-long lines, deep nesting, NaN and lone surrogates are bad rows
or a DataError, never a crash.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from chatwright.errors import ConfigError, DataError

MAX_LINE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 16 * 2**30
MAX_GZIP_RATIO = 200
# Below this size the ratio does not matter: a small file of equal lines packs very well.
FREE_UNPACKED_BYTES = 64 * 2**20
_SHOWN = 30  # characters of a line in a message
MAX_DEPTH = 200


class Where(NamedTuple):
    """The place of a row; reads its fields so that every error names file, line, field and reason."""

    path: str | Path
    line: int | None

    def error(self, name: str, reason: str) -> DataError:
        """A DataError that names this place and field `name`."""
        return DataError.at(self.path, self.line, name, reason)

    def text(self, value: Any, name: str) -> str:
        """`value` if it is a string, else a DataError."""
        if value is None:
            raise self.error(name, "is missing; it must be a text")
        if not isinstance(value, str):
            raise self.error(name, f"must be a text, not {_kind(value)}")
        return value

    def optional_text(self, row: Mapping[str, Any], name: str) -> str | None:
        """The string in field `name`, or None when it is absent or null."""
        return None if row.get(name) is None else self.text(row[name], name)

    def list(self, value: Any, name: str) -> list[Any]:
        """`value` if it is a list, else a DataError."""
        if value is None:
            raise self.error(name, "is missing; it must be a list")
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, not {_kind(value)}")
        return value


IN_MEMORY = Where("", None)  # a row that comes from no file: its errors name the field only


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return names.get(type(value), "null" if value is None else "a number")


def open_bytes(path: str | Path) -> BinaryIO:
    """Open a file for reading, unpacked when it is gzip (told by its first bytes, not by its name)."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if file.peek(2)[:2] == b"\x1f\x8b":
        return cast(BinaryIO, io.BufferedReader(_CappedGzip(file, path), buffer_size=2**16))
    return file


class _CappedGzip(io.RawIOBase):
    """A gzip stream that stops at a bomb and says which file is damaged."""

    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        self._file, self._path = file, path
        self._gzip = gzip.GzipFile(fileobj=file)
        self._packed = os.fstat(file.fileno()).st_size
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def packed_position(self) -> int:
        """Bytes of the packed file read so far."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._gzip.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self._path}: the gzip data is damaged or cut off ({error})") from None
        self._unpacked += len(data)
        limit = min(MAX_UNPACKED_BYTES, max(FREE_UNPACKED_BYTES, MAX_GZIP_RATIO * self._packed))
        if self._unpacked > limit:
            raise DataError(f"{self._path}: unpacks to more than {limit:,} bytes; unpack it yourself if this is right")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._gzip.close()
        self._file.close()
        super().close()


def read_line_bytes(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line without its end) of a file, plain or gzip; CRLF and LF both end a line, a byte order mark is
    dropped."""
    with open_bytes(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError.at(path, number, "line", f"is longer than {MAX_LINE_BYTES:,} bytes")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line.rstrip(b"\r\n")


def read_text_lines(path: str | Path) -> Iterator[tuple[int, str | DataError]]:
    """(line number, line without its end) of a UTF-8 file, plain or gzip; a line that is not UTF-8 is an error value."""
    for number, line in read_line_bytes(path):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield number, DataError.at(path, number, "line", f"is not UTF-8 at byte {error.start}; save it as UTF-8")


def read_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """(line number, object) of every line that is not blank; a bad line comes as a DataError value."""
    for number, line in read_text_lines(path):
        if isinstance(line, DataError):
            yield number, line
        elif line.strip():
            yield number, _object(line, Where(path, number))


def _object(line: str, where: Where) -> dict[str, Any] | DataError:
    try:
        value = parse(line, where)
    except DataError as error:
        return error
    if isinstance(value, dict):
        return value
    hint = "; a JSON array is read by `chatwright data import`" if isinstance(value, list) else ""
    return where.error("line", f"must be a JSON object, not {_kind(value)}{hint}")


def parse(text: str, where: Where) -> Any:
    """Strict JSON: NaN, Infinity, deep nesting and lone surrogates are DataErrors."""
    try:
        value = json.loads(text, parse_constant=refuse_constant)
        check(value)
        return value
    except RecursionError:
        raise where.error("line", f"is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        hint = ""
        if "\0" not in text and text.lstrip()[:1] == "[" or text.strip() in "{[":
            hint = "; a JSON array over many lines is read by `chatwright data import`"
        raise where.error("line", f"is not JSON: {_expected(text, error)}{hint}") from None
    except ValueError as error:
        raise where.error("line", reason(error)) from None


def _expected(text: str, error: json.JSONDecodeError) -> str:
    """The expected form: of a line that does not even begin like JSON, a whole object; else where the error is."""
    if "\0" in text:
        return "holds NUL bytes, as UTF-16 does (without a byte order mark); save the file as UTF-8, or import it"
    begin = text.lstrip()
    if begin[:1] in ("{", "[", '"') or not begin:
        return f"{error.msg} at column {error.colno}"
    shown = begin if len(begin) <= _SHOWN else f"{begin[:_SHOWN]}..."
    return f'an object such as {{"prompt": "..."}} was expected on every line, not the text {shown.rstrip()!r}'


def reason(error: ValueError) -> str:
    """Why a value is no usable JSON, from what `json.loads` or `check` raised."""
    return "holds an integer of thousands of digits" if "set_int_max_str_digits" in str(error) else str(error)


def refuse_constant(name: str) -> NoReturn:
    """For `parse_constant` of the json module: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON; use a number or null")


def check(value: Any, depth: int = 0) -> None:
    """ValueError when a value read from elsewhere is nested too deep, not finite, or not text."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if not value.isascii():
            _check_text(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            check(name, depth + 1)
            check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check(item, depth + 1)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        # 1e999 is valid JSON and reads as infinity.
        raise ValueError("holds a number too large for a float")


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a surrogate pair ({value[error.start]!r}), which is not text") from None


def dumps(row: Mapping[str, Any], where: str) -> bytes:
    """One row as a UTF-8 line; DataError when it holds NaN or something JSON cannot say."""
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be written as JSON: {error}") from None


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of a JSON-lines file; DataError at the first bad line."""
    for line, row in read_lines(path):
        if isinstance(row, DataError):
            raise row
        yield line, row


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as UTF-8 JSON lines, all or nothing (written aside, synced, renamed). Returns their number."""
    target = Path(path)
    check_writable(target)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    num_rows = 0
    try:
        with os.fdopen(handle, "wb") as file:
            # mkstemp makes the file private; give it the mode any new file would have.
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            for row in rows:
                num_rows += 1
                file.write(dumps(row, where=f"{path}: row {num_rows}"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and not error.filename:  # a write names no file
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return num_rows


def check_writable(path: str | Path) -> None:
    """Before long work: make the folder of a file to write. ConfigError when the file could not be written there."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
