"""What worker processes do: clean a batch of input (first pass), tokenise a part of the spool (second pass)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright.data.corpus_build import dedupe, sources, spool
from chatwright.data.corpus_build.cleaner import Clean, Cleaner, Dropped
from chatwright.data.corpus_build.config import BuildConfig
from chatwright.data.corpus_build.decontaminate import Contamination
from chatwright.data.shards import SPLITS, Split
from chatwright.errors import DataError
from chatwright.text.tokenizer import Tokenizer

SHOWN_PER_REASON = 3


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker needs to know, once."""

    cfg: BuildConfig
    parts: Path
    """The spool."""
    tokenizer: Path
    """Folder of the tokenizer."""
    contamination: Contamination | None

    @property
    def near(self) -> bool:
        """Whether signatures are wanted."""
        return self.cfg.dedupe.near and not self.cfg.raw


class Worker:
    """The state of a worker process."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._cleaner = Cleaner(task.cfg, task.contamination)
        self._opened: Tokenizer | None = None

    # ---- first pass ------------------------------------------------------------------------------------

    def clean(self, numbered: tuple[int, tuple[sources.Unit, ...]]) -> dict[str, Any]:
        """A batch of units -> a part of the spool. Returns what was counted."""
        number, units = numbered
        texts: list[str] = []
        records: list[tuple[Any, ...]] = []
        counts = Counts()
        for unit in units:
            for found in sources.documents(unit, self.task.cfg.text_field):
                if isinstance(found, DataError):
                    counts.drop("unreadable row", str(found), 0)
                    continue
                cleaned = self._cleaner(found.text)
                size = len(found.text.encode("utf-8", "surrogatepass"))
                if isinstance(cleaned, Dropped):
                    counts.drop(cleaned.reason, found.place, size)
                    continue
                counts.keep(size, cleaned.scrubbed)
                texts.append(cleaned.text)
                records.append(self._record(cleaned))
        array = np.array(records, spool.record_dtype(near=self.task.near))
        counted = counts.to_dict() | {"texts": len(texts)}
        spool.write_part(self.task.parts, number, texts, array, counted)
        return counted

    def _record(self, document: Clean) -> tuple[Any, ...]:
        text = document.text
        tagged = f"{document.tags.language} {document.tags.script}".encode()
        about = (dedupe.text_key(text), len(text.encode()), len(text), tagged)
        if not self.task.near:
            return about
        assert document.words is not None
        return (*about, dedupe.signature(document.words, self.task.cfg.dedupe.ngram))

    # ---- second pass -----------------------------------------------------------------------------------

    def tokenise(self, given: tuple[int, npt.NDArray[np.int8]]) -> dict[Split, Encoded]:
        """A part of the spool -> its kept documents as ids, by split. `given`: the part's number and for each of its
        documents -1 (dropped), 0 (training) or 1 (held out)."""
        number, places = given
        tags = [str(bytes(one), "ascii") for one in spool.read_records(self.task.parts, number)["tags"]]
        found: dict[Split, list[tuple[str, str]]] = {split: [] for split in SPLITS}
        for text, place, tag in zip(spool.read_texts(self.task.parts, number), places.tolist(), tags, strict=True):
            if place >= 0:
                for split, piece in self._pieces(text, SPLITS[place]):
                    found[split].append((piece, tag))
        return {split: self._encoded(pieces) for split, pieces in found.items() if pieces}

    def _pieces(self, text: str, split: Split) -> list[tuple[Split, str]]:
        cfg = self.task.cfg.split
        if cfg.by == "document":
            return [(split, text)]
        cut = int(len(text) * (1.0 - cfg.share))
        pieces: list[tuple[Split, str]] = [("train", text[:cut]), ("held_out", text[cut:])]
        return [(name, piece) for name, piece in pieces if piece]

    def _encoded(self, pieces: list[tuple[str, str]]) -> Encoded:
        bos, eos = frame(self._tokenizer, self.task.cfg)
        rows = self._tokenizer.encode_many(text for text, _ in pieces)
        head = [] if bos is None else [bos]
        lengths = np.array([len(row) + len(head) + 1 for row in rows], np.int64)
        ids = np.fromiter((i for row in rows for part in (head, row, (eos,)) for i in part), np.uint32, int(lengths.sum()))
        return Encoded(
            ids=ids,
            lengths=lengths,
            num_bytes=tuple(len(text.encode()) for text, _ in pieces),
            num_characters=tuple(len(text) for text, _ in pieces),
            tags=tuple(tag for _, tag in pieces),
        )

    @property
    def _tokenizer(self) -> Tokenizer:
        if self._opened is None:
            self._opened = Tokenizer.from_folder(self.task.tokenizer)
        return self._opened


def frame(tokenizer: Tokenizer, cfg: BuildConfig) -> tuple[int | None, int]:
    """(bos, eos) ids that stand around every document. A bos that is a turn marker (SmolLM2's) begins turns, not texts."""
    turns = {tokenizer.special_ids[name] for name in tokenizer.template.controls() if name != tokenizer.template.bos}
    bos = tokenizer.bos_id if cfg.bos and tokenizer.bos_id not in {*turns, tokenizer.document_end_id} else None
    return bos, tokenizer.document_end_id


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Documents of one split as ids, one after another."""

    ids: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]
    """[documents]: ids of each, bos and eos included."""
    num_bytes: tuple[int, ...]
    num_characters: tuple[int, ...]
    tags: tuple[str, ...]
    """"language script" of each."""


class Counts:
    """Documents read, dropped by reason with some examples, and personal data replaced."""

    def __init__(self) -> None:
        self.documents = self.bytes = 0
        self.dropped: dict[str, dict[str, Any]] = {}
        self.scrubbed: Counter[str] = Counter()

    def keep(self, size: int, scrubbed: Mapping[str, int]) -> None:
        """A document that stays, `size` bytes as read."""
        self.documents += 1
        self.bytes += size
        self.scrubbed.update(scrubbed)

    def drop(self, reason: str, place: str, size: int) -> None:
        """A document that does not."""
        self.documents += 1
        self.bytes += size
        self._reason(reason, 1, size, [place])

    def duplicates(self, reason: str, num: int, size: int) -> None:
        """Documents, read and kept so far, that turned out to be there already."""
        self._reason(reason, num, size, [])

    def _reason(self, reason: str, num: int, size: int, examples: Sequence[str]) -> None:
        found = self.dropped.setdefault(reason, {"documents": 0, "bytes": 0, "examples": []})
        found["documents"] += num
        found["bytes"] += size
        found["examples"] = [*found["examples"], *examples][:SHOWN_PER_REASON]

    def add(self, counts: Mapping[str, Any]) -> None:
        """What another `to_dict` counted."""
        self.documents += counts["documents"]
        self.bytes += counts["bytes"]
        self.scrubbed.update(counts["scrubbed"])
        for reason, found in counts["dropped"].items():
            self._reason(reason, found["documents"], found["bytes"], found["examples"])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"documents": self.documents, "bytes": self.bytes, "dropped": self.dropped, "scrubbed": dict(self.scrubbed)}
