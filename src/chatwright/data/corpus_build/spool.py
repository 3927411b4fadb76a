"""What lies on disk between the passes: for each batch of input one part, made of

    000042.zst    the cleaned texts, one JSON text a line, Zstandard with checksums
    000042.npy    a record for each (`RECORD`), and its MinHash signature when near-duplicates are looked for
    000042.json   what was counted; written last, so a part is there whole or not at all

A build that was killed goes on from the parts that are there.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from chatwright.errors import DataError

NUM_HASHES = 112
NUM_BANDS = 14
"""14 bands of 8 hashes: two documents of similarity s share a band with probability 1 - (1 - s^8)^14, half at 0.69."""
BAND_ROWS = NUM_HASHES // NUM_BANDS
RECORD = np.dtype([("key", "<u8", (2,)), ("bytes", "<u4"), ("characters", "<u4"), ("tags", "S32")])


def record_dtype(*, near: bool) -> np.dtype[Any]:
    """The record of one document, with a signature when `near`."""
    return np.dtype([*RECORD.descr, ("signature", "<u4", (NUM_HASHES,))]) if near else RECORD


def write_part(
    folder: Path, number: int, texts: Sequence[str], records: npt.NDArray[Any], counts: dict[str, Any]
) -> None:
    """Write one part; the .json comes last."""
    base = folder / f"{number:06d}"
    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts).encode()
    packed = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(lines)
    base.with_suffix(".zst").write_bytes(packed)
    with open(base.with_suffix(".npy"), "wb") as file:
        np.save(file, records, allow_pickle=False)
    done = base.with_suffix(".json.new")
    done.write_text(json.dumps(counts | {"texts": len(texts)}), encoding="utf-8")
    os.replace(done, base.with_suffix(".json"))


def read_counts(folder: Path, number: int) -> dict[str, Any] | None:
    """What a part counted, None when it is not there (whole)."""
    try:
        counts: dict[str, Any] = json.loads((folder / f"{number:06d}.json").read_text(encoding="utf-8"))
        return counts
    except (OSError, ValueError):
        return None


def read_records(folder: Path, number: int) -> npt.NDArray[Any]:
    """The records of a part."""
    file = folder / f"{number:06d}.npy"
    try:
        records: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        return records
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(file, error) from None


def read_texts(folder: Path, number: int) -> Iterator[str]:
    """The texts of a part, in order."""
    file = folder / f"{number:06d}.zst"
    try:
        with open(file, "rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
                yield json.loads(line)
    except (OSError, ValueError, EOFError, zstandard.ZstdError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: is damaged ({error}); remove {file.parent.parent} and build again")
