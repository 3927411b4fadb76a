"""The header of a GGUF file, read with every count bounded, so that a hostile file costs no memory and no time.

Layout: github.com/ggml-org/ggml docs/gguf.md. The reader of the `gguf` package trusts the counts in the file (a file
of 120 bytes makes it allocate until the machine stops), so the header is parsed here and only dequantisation is left
to it.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatwright.errors import ModelError

MAX_METADATA = 4096
MAX_TENSORS = 100_000
MAX_DIMS = 4
MAX_STRING_BYTES = 1 << 20
MAX_ARRAY_ITEMS = 4_000_000

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Where one tensor lies in the file."""

    name: str
    """Name in the file, e.g. `blk.0.attn_q.weight`."""
    shape: tuple[int, ...]
    """Sizes as torch orders them: rows first (GGUF stores them reversed)."""
    kind: int
    """Quantisation type as numbered by ggml (`gguf.GGMLQuantizationType`)."""
    start: int
    """First byte, from the beginning of the file."""
    num_bytes: int
    """Length in bytes."""
    path: Path
    """The file: of a split model one of several."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Metadata and tensor table of one GGUF file."""

    path: Path
    """The file; of a split model its first part."""
    metadata: dict[str, Any]
    """Numbers, bools and strings; arrays as lists of str or as numpy arrays."""
    tensors: dict[str, TensorInfo]
    """By name."""


class _Cursor:
    """Reads bounded values from the mapped file, one after the other."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def fail(self, reason: str) -> ModelError:
        return ModelError(f"{self.path}: damaged GGUF header at byte {self.at}: {reason}. Fetch the file again.")

    def take(self, size: int) -> int:
        start = self.at
        if size > len(self.data) - start:
            raise self.fail("the file ends inside it")
        self.at += size
        return start

    def number(self, code: str) -> Any:
        return struct.unpack_from("<" + code, self.data, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        size = self.number("Q")
        if size > MAX_STRING_BYTES:
            raise self.fail(f"a string of {size} bytes (limit {MAX_STRING_BYTES})")
        start = self.take(size)
        return self.data[start : start + size].decode("utf-8", errors="replace")

    def value(self) -> Any:
        kind = self.number("I")
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        return self.number(self.scalar(kind))

    def scalar(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise self.fail(f"unknown value type {kind}")
        return _SCALARS[kind]

    def array(self) -> list[str] | np.ndarray:
        kind, count = self.number("I"), self.number("Q")
        if count > MAX_ARRAY_ITEMS:
            raise self.fail(f"an array of {count} items (limit {MAX_ARRAY_ITEMS})")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        code = self.scalar(kind)
        start = self.take(count * struct.calcsize("<" + code))
        return np.frombuffer(self.data, np.dtype("<" + code if code != "?" else "?"), count, start).copy()


def read_header(path: Path) -> Header:
    """Parse and check the header of `path`. Raises ModelError when the file is damaged or beyond the limits above."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(_Cursor(path, data))
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: cannot be read as a GGUF file: {error}") from error


def split_parts(path: Path) -> list[Path]:
    """The files of a model that llama.cpp split, named `NAME-00001-of-00003.gguf`, whichever of them is given; `[path]` for
    any other. ModelError when one is not there."""
    match = _PART.fullmatch(path.name)
    count = int(match.group(2)) if match else 1
    if match is None or count < 2:
        return [path]
    parts = [path.with_name(f"{match.group(1)}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise ModelError(f"{path}: is one of {count} parts of a split file, and {missing[0]} is not beside it; fetch it too")
    return parts


def read_parts(path: Path) -> Header:
    """The header of a file, or of all parts of a split one as one: the metadata of the first, the tensors of all."""
    files = split_parts(path)
    headers = [read_header(file) for file in files]
    tensors: dict[str, TensorInfo] = {}
    for number, header in enumerate(headers):
        count, place = header.metadata.get("split.count", 1), header.metadata.get("split.no", 0)
        if (count, place) != (len(files), number):
            told = f"part {place + 1} of {count}" if isinstance(place, int) else f"a part of {count}"
            raise ModelError(
                f"{header.path}: says that it is {told} of a split file. Name the parts as llama.cpp does, "
                "NAME-00001-of-00003.gguf, in one folder"
            )
        if twice := tensors.keys() & header.tensors.keys():
            raise ModelError(f"{header.path}: tensor {min(twice)!r} is in another part too; fetch the parts again")
        tensors |= header.tensors
    return Header(path=files[0], metadata=headers[0].metadata, tensors=tensors)


def _parse(cursor: _Cursor) -> Header:
    if cursor.number("4s") != b"GGUF":
        raise ModelError(f"{cursor.path}: not a GGUF file (it does not begin with 'GGUF')")
    version = cursor.number("I")
    if version not in (2, 3):
        raise ModelError(f"{cursor.path}: GGUF version {version} is not supported (2 and 3 are)")
    num_tensors, num_metadata = cursor.number("Q"), cursor.number("Q")
    if num_metadata > MAX_METADATA or num_tensors > MAX_TENSORS:
        raise cursor.fail(f"{num_metadata} metadata entries and {num_tensors} tensors")
    metadata: dict[str, Any] = {}
    for _ in range(num_metadata):
        key = cursor.string()
        metadata[key] = cursor.value()
    raw = [_tensor_entry(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise cursor.fail(f"alignment {alignment!r}")
    base = -(-cursor.at // alignment) * alignment
    tensors = {name: _locate(cursor, base, name, shape, kind, offset) for name, shape, kind, offset in raw}
    if len(tensors) != num_tensors:
        raise cursor.fail("two tensors of the same name")
    return Header(path=cursor.path, metadata=metadata, tensors=tensors)


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name, num_dims = cursor.string(), cursor.number("I")
    if not 1 <= num_dims <= MAX_DIMS:
        raise cursor.fail(f"tensor {name!r} has {num_dims} dimensions (limit {MAX_DIMS})")
    shape = tuple(cursor.number("Q") for _ in range(num_dims))[::-1]
    return name, shape, cursor.number("I"), cursor.number("Q")


def _locate(cursor: _Cursor, base: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> TensorInfo:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block_items, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise cursor.fail(f"tensor {name!r} has the unknown type {kind}") from None
    items = 1
    for size in shape:
        items *= size
    if items == 0 or shape[-1] % block_items:
        raise cursor.fail(f"tensor {name!r} has the impossible shape {list(shape)}")
    num_bytes, start = items // block_items * block_bytes, base + offset
    if start + num_bytes > len(cursor.data):
        raise cursor.fail(f"tensor {name!r} reaches past the end of the file (an incomplete download?)")
    return TensorInfo(name=name, shape=shape, kind=kind, start=start, num_bytes=num_bytes, path=cursor.path)
