"""Text files -> documents, and a hash of what was read. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatwright import jsonl
from chatwright.errors import DataError
from chatwright.jsonl import Where


@dataclass(frozen=True)
class Document:
    """A text, or tokens that stand for one (replay sampled from a model)."""

    text: str = ""
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Shard:
    """One file of a corpus."""

    path: Path
    size: int
    """Bytes on disk."""
    sha256: str


def open_shards(paths: Sequence[str | Path]) -> list[Shard]:
    """The files with their hashes; a folder stands for its .txt, .jsonl and .gz files, by name."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(f for f in path.iterdir() if f.suffix in (".txt", ".jsonl", ".gz")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: holds no .txt, .jsonl or .gz file")
        files += inside
    return [_shard(file) for file in files]


def _shard(file: Path) -> Shard:
    try:
        with open(file, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
        return Shard(file, file.stat().st_size, digest.hexdigest())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def documents(shards: Sequence[Shard], *, text_field: str = "text") -> Iterator[Document]:
    """All documents in order.

    A .txt file (or .txt.gz) is one document. A line of JSON is one: `{"text": "..."}` (a list of texts is joined by
    newlines) or replay `{"ids": [...]}`. Empty documents are skipped. DataError names file, line, field, reason.
    """
    for shard in shards:
        if ".txt" in shard.path.suffixes:
            text = _whole_text(shard.path)
            if text.strip():
                yield Document(text)
            continue
        for line, row in jsonl.read_jsonl(shard.path):
            document = _from_row(row, text_field, Where(shard.path, line))
            if document.ids or document.text.strip():
                yield document


def _whole_text(path: Path) -> str:
    lines = []
    for _, line in jsonl.read_text_lines(path):
        if isinstance(line, DataError):
            raise line
        lines.append(line)
    return "\n".join(lines)


def _from_row(row: dict[str, object], text_field: str, where: Where) -> Document:
    if "ids" in row and text_field not in row:
        ids = where.list(row["ids"], "ids")
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise where.error("ids", "must be whole numbers of 0 or more")
        return Document(ids=tuple(ids))
    if text_field not in row:
        raise where.error(
            text_field,
            f'is missing; a row has {{"{text_field}": "..."}} or {{"ids": [...]}}, '
            f"this one has {', '.join(sorted(row)) or 'no fields'}",
        )
    value = row[text_field]
    if isinstance(value, list):
        return Document("\n".join(where.text(part, f"{text_field}[{n}]") for n, part in enumerate(value)))
    return Document(where.text(value, text_field))
