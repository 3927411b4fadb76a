"""Standard input and pipes as files: a reader of rows looks at the beginning twice, which a pipe does not allow."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from chatwright.errors import DataError
from chatwright.jsonl import MAX_UNPACKED_BYTES

STDIN = "-"
_STDIN_NAMES = (STDIN, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_CHUNK_BYTES = 2**20


def is_stream(path: str | Path) -> bool:
    """`-`, /dev/stdin and pipes such as `<(command)`: they are read once."""
    if str(path) in _STDIN_NAMES:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def spooled(path: str | Path) -> Any:
    """A temporary file with the content of a stream, deleted when it is closed or collected. DataError for a stream that
    cannot be read or that is larger than `MAX_UNPACKED_BYTES`."""
    spool = tempfile.NamedTemporaryFile(prefix="chatwright-")  # noqa: SIM115 (returned)
    try:
        if str(path) in _STDIN_NAMES:
            _copy(path, sys.stdin.buffer, spool)
        else:
            with open(path, "rb") as pipe:
                _copy(path, pipe, spool)
    except OSError as error:
        raise DataError(f"{path}: cannot be read to {spool.name}: {error.strerror}") from None
    spool.flush()
    return spool


def holding(spool: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """The rows; the spool is kept until they end."""
    with spool:
        yield from rows


def _copy(path: str | Path, source: BinaryIO, target: Any) -> None:
    size = 0
    while chunk := source.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_UNPACKED_BYTES:
            raise DataError(f"{path}: gives more than {MAX_UNPACKED_BYTES:,} bytes; save it to a file and split that")
        target.write(chunk)
