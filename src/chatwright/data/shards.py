"""A built corpus on disk: flat token shards and a manifest, and the one reader of it. No torch.

```
DIR/manifest.json        what this is; written last (`chatwright corpus build` writes DIR aside and renames it)
DIR/tokenizer/           the tokenizer the ids belong to (`Tokenizer.from_folder(DIR / "tokenizer")`)
DIR/train-00000.bin      token ids, document after document: little-endian uint16, or uint32 when the vocabulary needs it
DIR/train-00000.idx      where each document starts in the .bin, in tokens: little-endian uint64
DIR/held_out-00000.bin   the same for the documents kept aside; .idx likewise
DIR/README.md            the data card
```

Every document is `[bos] tokens eos`; the manifest's `document` says which ids these are (`bos` is null when there is none).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from chatwright.errors import DataError
from chatwright.text.tokenizer import Tokenizer

FORMAT = "chatwright.shards"
VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
MAX_MANIFEST_BYTES = 64 * 2**20
Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = get_args(Split)
_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_START: np.dtype[np.uint64] = np.dtype("<u8")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One .bin file with its .idx."""

    file: Path
    num_tokens: int
    num_documents: int
    sha256: str
    """Of the .bin file."""
    index_sha256: str
    """Of the .idx file."""

    @property
    def index(self) -> Path:
        """The .idx file beside the .bin file."""
        return self.file.with_suffix(".idx")


class Shards:
    """One split of a built corpus, as one long row of tokens. Files are mapped, not read: memory stays flat."""

    def __init__(self, folder: Path, split: Split, manifest: dict[str, Any]) -> None:
        """Use `Shards.open`."""
        self.folder, self.split, self.manifest = folder, split, manifest
        about = manifest["splits"][split]
        self.dtype = _DTYPES[manifest["dtype"]]
        self.shards = tuple(_shard(folder, fields) for fields in about["shards"])
        self.num_tokens: int = sum(shard.num_tokens for shard in self.shards)
        self.num_documents: int = sum(shard.num_documents for shard in self.shards)
        self.num_bytes: int = about["bytes"]
        """UTF-8 bytes of the split's text: bits per byte = nats / (ln 2 x num_bytes)."""
        self.num_characters: int = about["characters"]
        """Characters (Unicode code points) of the split's text."""
        self.vocab_size: int = manifest["tokenizer"]["vocab_size"]
        self.bos_id: int | None = manifest["document"]["bos"]
        self.eos_id: int = manifest["document"]["eos"]
        self._starts = np.cumsum([0, *(shard.num_tokens for shard in self.shards)])

    @classmethod
    def open(cls, folder: str | Path, split: Split = "train") -> Shards:
        """Open a built corpus. The manifest's form and the files' sizes are checked; `verify` checks every byte.

        Raises DataError when the folder is no built corpus, or a file is missing or of another size.
        """
        path = Path(folder)
        manifest = read_manifest(path)
        if split not in SPLITS:
            raise DataError(f"{path}: split {split!r}: is none of {', '.join(SPLITS)}")
        found = cls(path, split, manifest)
        for shard in found.shards:
            _check_size(shard.file, shard.num_tokens * found.dtype.itemsize)
            _check_size(shard.index, shard.num_documents * _START.itemsize)
        return found

    def tokens(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Ids of the places start..stop of the whole split: [stop - start], in the shards' dtype, a copy when it spans
        shards. IndexError outside 0..num_tokens."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise IndexError(f"tokens {start}..{stop} of {self.num_tokens}")
        parts = []
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            offset = int(self._starts[number])
            end = min(stop, int(self._starts[number + 1]))
            parts.append(self._maps[number][start - offset : end - offset])
            start, number = end, number + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)

    def documents(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of every document, in order, bos and eos included: `tokens(start, stop)` are its ids."""
        for shard, offset in zip(self.shards, self._starts.tolist(), strict=False):
            starts = self._index(shard)
            for lower in range(0, len(starts), 65_536):
                some = [*starts[lower : lower + 65_537].tolist()]
                if lower + 65_536 >= len(starts):
                    some = [*some[:65_536], shard.num_tokens]
                for start, stop in zip(some, some[1:], strict=False):
                    yield offset + start, offset + stop

    def document_starts(self) -> npt.NDArray[np.int64]:
        """[num_documents + 1]: where each document starts, and at last num_tokens. 8 bytes of memory a document."""
        parts = [self._index(shard).astype(np.int64) + offset
                 for shard, offset in zip(self.shards, self._starts.tolist(), strict=False)]  # fmt: skip
        return np.concatenate([*parts, np.array([self.num_tokens], np.int64)])

    def verify(self) -> None:
        """Read every byte of the split: hashes, document starts, ids within the vocabulary. DataError names the file."""
        for shard in self.shards:
            for file, expected in ((shard.file, shard.sha256), (shard.index, shard.index_sha256)):
                if file_sha256(file) != expected:
                    raise DataError(f"{file}: does not have the hash that the manifest states; build the corpus again")
            self._verify_starts(shard)
        for ids in self._maps:
            for lower in range(0, len(ids), 2**22):
                if int(ids[lower : lower + 2**22].max()) >= self.vocab_size:
                    raise DataError(f"{self.folder}: holds an id beyond the vocabulary of {self.vocab_size}")

    def require(self, tokenizer: Tokenizer) -> None:
        """DataError unless the ids of `tokenizer` are the ids of these shards."""
        if vocabulary_sha256(tokenizer) != self.manifest["tokenizer"]["sha256"]:
            raise DataError(
                f"{self.folder}: was built with another tokenizer; build it with the model's own: "
                "chatwright corpus build FILE... --tokenizer MODEL --out DIR"
            )

    @cached_property
    def _maps(self) -> list[npt.NDArray[Any]]:
        return [
            np.memmap(shard.file, self.dtype, "r") if shard.num_tokens else np.zeros(0, self.dtype) for shard in self.shards
        ]

    def _index(self, shard: Shard) -> npt.NDArray[np.uint64]:
        return np.memmap(shard.index, _START, "r") if shard.num_documents else np.zeros(0, _START)

    def _verify_starts(self, shard: Shard) -> None:
        starts = self._index(shard)
        rising = bool((starts[1:] > starts[:-1]).all()) if len(starts) else shard.num_tokens == 0
        if not rising or (len(starts) and (int(starts[0]) != 0 or int(starts[-1]) >= shard.num_tokens)):
            raise DataError(f"{shard.index}: the documents' starts are not in order; build the corpus again")


def is_built(path: str | Path) -> bool:
    """Whether `path` is a folder that `chatwright corpus build` wrote."""
    return (Path(path) / MANIFEST).is_file()


def vocabulary_sha256(tokenizer: Tokenizer) -> str:
    """Hash of what turns text into ids: the content of tokenizer.json. (The chat template and its default system message
    may change during training; the ids of plain text do not.)"""
    canonical = json.dumps(json.loads(tokenizer.json), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """Hex digest of a file. DataError when it cannot be read."""
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked for every field the reader relies on. DataError says what is wrong."""
    file = folder / MANIFEST
    try:
        if file.stat().st_size > MAX_MANIFEST_BYTES:
            raise DataError(f"{file}: is larger than {MAX_MANIFEST_BYTES:,} bytes; this is no manifest")
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "build one with `chatwright corpus build`"
        raise DataError(f"{folder}: is no built corpus ({MANIFEST}: {error.strerror}); {hint}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: is damaged (not JSON); build the corpus again") from None
    if problem := _problem(manifest):
        raise DataError(f"{file}: {problem}")
    return dict(manifest)


def _problem(manifest: Any) -> str:
    """What is wrong with the form of a manifest, "" when nothing is."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return f'is not the manifest of a built corpus (no "format": "{FORMAT}")'
    if manifest.get("version") != VERSION:
        return f"has version {manifest.get('version')!r}; this Chatwright reads version {VERSION}: build the corpus again"
    if manifest.get("dtype") not in list(_DTYPES):
        return f"dtype: must be one of {', '.join(_DTYPES)}"
    document, about = manifest.get("document"), manifest.get("tokenizer")
    if not isinstance(document, dict) or not _count(document.get("eos")):
        return "document.eos: must be a token id"
    if document.get("bos", "") is not None and not _count(document.get("bos")):
        return "document.bos: must be a token id or null"
    if not isinstance(about, dict) or not isinstance(about.get("sha256"), str) or not _count(about.get("vocab_size")):
        return "tokenizer: must hold sha256 and vocab_size"
    splits = manifest.get("splits")
    if not isinstance(splits, dict) or set(splits) != set(SPLITS):
        return f"splits: must be {' and '.join(SPLITS)}"
    return next((f"splits.{name}: {wrong}" for name, split in splits.items() if (wrong := _split_problem(split))), "")


def _split_problem(split: Any) -> str:
    if not isinstance(split, dict) or not isinstance(split.get("shards"), list):
        return "must hold a list of shards"
    if not all(_count(split.get(name)) for name in ("bytes", "characters")):
        return "bytes and characters must be counts"
    for shard in split["shards"]:
        if not isinstance(shard, dict) or not all(_count(shard.get(name)) for name in ("tokens", "documents")):
            return "a shard must hold its counts of tokens and documents"
        if not all(isinstance(shard.get(name), str) for name in ("name", "sha256", "index_sha256")):
            return "a shard must hold name, sha256 and index_sha256"
        if Path(shard["name"]).name != shard["name"] or not shard["name"].endswith(".bin"):
            return f"{shard['name']!r} is not the plain name of a .bin file"
    return ""


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _shard(folder: Path, fields: dict[str, Any]) -> Shard:
    return Shard(
        file=folder / fields["name"],
        num_tokens=fields["tokens"],
        num_documents=fields["documents"],
        sha256=fields["sha256"],
        index_sha256=fields["index_sha256"],
    )


def _check_size(file: Path, expected: int) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; build the corpus again") from None
    if size != expected:
        raise DataError(f"{file}: has {size:,} bytes where the manifest states {expected:,}; build the corpus again")
