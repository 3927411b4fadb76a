"""Opening input files, plain, gzip or Zstandard (told by their first bytes), with limits against bombs."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from chatwright import jsonl
from chatwright.errors import DataError

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b"
# What `zstd --long=27` needs to unpack; a frame may ask for far more.
_WINDOW_BYTES = 2**27
# A block of 4 packed bytes can hold 128 KiB: small steps keep what a bomb can unpack at once below 64 MiB.
_PACKED_STEP = 2048


def open_input(path: str | Path) -> BinaryIO:
    """The content of a file, unpacked; `raw.packed_position()` of the result is the place in a packed file. DataError when
    it cannot be read, is damaged, or unpacks to absurd amounts."""
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic != _ZSTD_MAGIC and magic[:2] != _GZIP_MAGIC:
            return open(path, "rb", buffering=2**20)
        if magic == _ZSTD_MAGIC:
            return cast(BinaryIO, io.BufferedReader(_CappedZstd(open(path, "rb"), path), 2**18))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return jsonl.open_bytes(path)


class _CappedZstd(io.RawIOBase):
    """A Zstandard stream (of one frame or several) that stops at a bomb and says which file is damaged or cut off."""

    def __init__(self, file: BinaryIO, path: str | Path) -> None:
        self._file, self._path = file, path
        self._packed = os.fstat(file.fileno()).st_size
        self._unpacked = 0
        self._ready = memoryview(b"")
        self._waiting = b""
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def packed_position(self) -> int:
        """Bytes of the packed file read so far."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._waiting or self._file.read(_PACKED_STEP)
            self._waiting = b""
            if not packed:
                if self._frame is not None:
                    raise DataError(f"{self._path}: the zstd data is cut off")
                return 0
            self._ready = memoryview(self._unpack(packed))
        num = min(len(buffer), len(self._ready))
        buffer[:num] = self._ready[:num]
        self._ready = self._ready[num:]
        return num

    def _unpack(self, packed: bytes) -> bytes:
        try:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
            data: bytes = self._frame.decompress(packed)
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
        except (zstandard.ZstdError, EOFError) as error:
            raise DataError(f"{self._path}: the zstd data is damaged ({error})") from None
        self._unpacked += len(data)
        # JSON lines of crawled text pack to a twentieth; a bomb to a ten-thousandth.
        if self._unpacked > max(jsonl.FREE_UNPACKED_BYTES, jsonl.MAX_GZIP_RATIO * self._packed):
            raise DataError(f"{self._path}: unpacks to over {self._unpacked:,} bytes; unpack it yourself if this is right")
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
