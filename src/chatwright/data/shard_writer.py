"""Writes one split of a built corpus (the format: `chatwright.data.shards`). No torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from chatwright.data.shards import Split


class ShardWriter:
    """Takes documents one after another and cuts a new shard when one is full; a document is never torn."""

    def __init__(self, folder: Path, split: Split, *, dtype: str, shard_tokens: int) -> None:
        """`shard_tokens`: a shard is closed once it holds that many."""
        self.folder, self.split, self.shard_tokens = folder, split, shard_tokens
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self.num_bytes = self.num_characters = 0
        self.shards: list[dict[str, Any]] = []
        self._tokens = self._documents = 0
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._hashes = (hashlib.sha256(), hashlib.sha256())

    def add(self, ids: npt.NDArray[Any], *, num_bytes: int, num_characters: int) -> None:
        """One whole document (its bos and eos among the ids) and the size of its text."""
        if self._files is None:
            self._open()
        self._write(0, ids.astype(self._dtype).tobytes())
        self._write(1, np.array([self._tokens], "<u8").tobytes())
        self._tokens += len(ids)
        self._documents += 1
        self.num_bytes += num_bytes
        self.num_characters += num_characters
        if self._tokens >= self.shard_tokens:
            self._close()

    def finish(self) -> dict[str, Any]:
        """Close the last shard; the split's part of the manifest."""
        self._close()
        return {
            "tokens": sum(shard["tokens"] for shard in self.shards),
            "documents": sum(shard["documents"] for shard in self.shards),
            "bytes": self.num_bytes,
            "characters": self.num_characters,
            "shards": self.shards,
        }

    def abandon(self) -> None:
        """Close the files after an error; what was written is not a corpus."""
        for file in self._files or ():
            file.close()
        self._files = None

    def _open(self) -> None:
        name = self._name()
        self._files = (open(self.folder / f"{name}.bin", "wb"), open(self.folder / f"{name}.idx", "wb"))  # noqa: SIM115
        self._hashes = (hashlib.sha256(), hashlib.sha256())
        self._tokens = self._documents = 0

    def _name(self) -> str:
        return f"{self.split}-{len(self.shards):05d}"

    def _write(self, which: int, data: bytes) -> None:
        assert self._files is not None
        self._files[which].write(data)
        self._hashes[which].update(data)

    def _close(self) -> None:
        if self._files is None:
            return
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files = None
        self.shards.append(
            {"name": f"{self._name()}.bin", "tokens": self._tokens, "documents": self._documents,
             "sha256": self._hashes[0].hexdigest(), "index_sha256": self._hashes[1].hexdigest()}
        )  # fmt: skip
