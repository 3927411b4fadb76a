"""Evaluation sets must not be trained on: documents that share 13 words in a row with one are found (arXiv 2005.14165,
appendix C). Rows of 8 to 12 words count as a whole; shorter ones are too common to be told from ordinary text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright import jsonl
from chatwright.data.corpus_build import sources
from chatwright.errors import DataError
from chatwright.text.letters import Hashes, Words, windows, words

NGRAM = 13
SHORTEST = 8


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """The n-grams of evaluation sets."""

    grams: dict[int, Hashes]
    """n -> sorted hashes of n-grams."""
    num_rows: int
    """Texts that are looked for."""
    num_short: int
    """Texts too short to be looked for."""

    def touches(self, document: Words) -> bool:
        """Whether the document holds one of the n-grams."""
        return any(len(table) and bool(_isin(windows(document.hashes, n), table).any()) for n, table in self.grams.items())


def _isin(values: Hashes, table: Hashes) -> npt.NDArray[np.bool_]:
    places = np.searchsorted(table, values)
    places[places == len(table)] = 0
    return table[places] == values


def contamination(paths: Sequence[str]) -> Contamination:
    """The n-grams of every text in these files: each text of a row of JSON lines, or each paragraph of a text file.
    DataError when nothing in them can be looked for."""
    grams: dict[int, list[Hashes]] = {}
    num_rows = num_short = 0
    for source in sources.inputs(paths):
        for text in _texts(source):
            found = words(text).hashes
            size = min(NGRAM, len(found))
            if size < SHORTEST:
                num_short += bool(size)
                continue
            num_rows += 1
            grams.setdefault(size, []).append(windows(found, size))
    if not num_rows:
        raise DataError(f"--decontaminate {' '.join(paths)}: holds no text of {SHORTEST} words or more")
    tables = {size: np.unique(np.concatenate(parts)) for size, parts in grams.items()}
    return Contamination(grams=tables, num_rows=num_rows, num_short=num_short)


def _texts(source: sources.Input) -> list[str]:
    if source.kind == "parquet":
        raise DataError(f"{source.path}: evaluation sets are read from text, JSON lines, JSON or CSV, not from Parquet")
    if source.kind == "text":
        documents = (d for unit in sources.units(source, "paragraph") for d in sources.documents(unit, "text"))
        return [_text(document) for document in documents]
    try:
        rows = [row for _, row in jsonl.read_jsonl(source.path)]
    except DataError:
        rows = [_whole(source.path)]
    found: list[str] = []
    _collect(rows, found)
    return found


def _text(document: sources.RawDocument | DataError) -> str:
    if isinstance(document, DataError):
        raise document
    return document.text


def _whole(path: Path) -> Any:
    with jsonl.open_bytes(path) as file:
        data = file.read(jsonl.MAX_LINE_BYTES + 1)
    if len(data) > jsonl.MAX_LINE_BYTES:
        raise DataError(f"{path}: is one JSON value of more than {jsonl.MAX_LINE_BYTES:,} bytes; make it JSON lines")
    try:
        return jsonl.parse(data.decode("utf-8-sig"), jsonl.Where(path, None))
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8; save it as UTF-8") from None


def _collect(value: Any, found: list[str]) -> None:
    """Every text inside a JSON value (its depth is limited by `jsonl.parse`)."""
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


