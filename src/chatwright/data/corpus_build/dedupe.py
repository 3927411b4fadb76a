"""Duplicates in a corpus larger than memory: exact ones by a 128-bit hash, near ones by MinHash signatures.

Each document gives one key for its whole text and one for each band of its signature. The keys of all documents are sorted
into files by their first bits, so that each file fits into memory; there, documents with an equal key are candidates, and
a pair of candidates counts when the share of equal hashes in their whole signatures (an unbiased estimate of the Jaccard
similarity of their sets of n-grams) is high enough. Of each group of duplicates the first document stays.

References: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (bands).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from chatwright.data.corpus_build import spool
from chatwright.text.letters import Hashes, Words, mixed, windows

KEEP, EXACT, NEAR = 0, 1, 2
_SEED = 1
# Entries of a bucket that are sorted in memory at once: about 60 bytes each with what sorting takes.
_BUCKET_ENTRIES = 2**20
_MOST_BUCKETS = 256
_ENTRY = np.dtype([("key", "<u8"), ("rest", "<u8"), ("document", "<u8")])


def text_key(text: str) -> tuple[int, int]:
    """128 bits of sha256 of a text."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def signature(counted: Words, ngram: int) -> npt.NDArray[np.uint32]:
    """[NUM_HASHES] MinHash of the n-grams of words; of a document shorter than that, of the words as one n-gram."""
    grams = windows(counted.hashes, min(ngram, max(len(counted.hashes), 1)))
    rows = RMinHash.digest_matrix_from_flat_token_hashes(grams, [0, len(grams)], spool.NUM_HASHES, _SEED).to_rows()
    return np.array(rows[0], np.uint32)


def band_keys(signatures: npt.NDArray[np.uint32]) -> Hashes:
    """[documents, NUM_BANDS]: a hash of each band; the same values in another band give another hash."""
    bands = signatures.reshape(len(signatures), spool.NUM_BANDS, spool.BAND_ROWS).astype(np.uint64)
    found = np.broadcast_to(np.arange(spool.NUM_BANDS, dtype=np.uint64), bands.shape[:2])
    for row in range(spool.BAND_ROWS):
        found = mixed(found * np.uint64(0x9E3779B97F4A7C15) + bands[:, :, row])
    return found


class Duplicates:
    """Finds duplicates among the parts of a spool. In memory: one bucket, and a byte for each document."""

    def __init__(self, work: Path, parts: Path, sizes: Sequence[int]) -> None:
        """`work`: an empty folder for sorted keys. `parts`: the spool. `sizes`: documents of each part, in order."""
        self._work, self._parts, self._sizes = work, parts, sizes
        self.verdicts = np.zeros(sum(sizes), np.uint8)
        """[documents]: KEEP, EXACT or NEAR."""

    def mark_exact(self) -> None:
        """Mark documents whose text is that of an earlier one."""
        buckets = _Buckets(self._work / "exact", len(self.verdicts))
        for records, start in self._records():
            buckets.add(records["key"][:, 0], records["key"][:, 1], _numbers(start, len(records)))
        for entries in buckets:
            for group in _groups(entries):
                self.verdicts[group[1:]] = EXACT

    def mark_near(self, similarity: float) -> None:
        """Mark documents whose signature agrees with that of an earlier one that is no exact copy, or with one that does
        with an earlier one, and so on."""
        num = len(self.verdicts)
        if not num:
            return
        signatures = _Signatures(self._work / "signatures")
        buckets = _Buckets(self._work / "near", num * spool.NUM_BANDS)
        for records, start in self._records():
            signatures.add(records["signature"])
            kept = np.flatnonzero(self.verdicts[start : start + len(records)] == KEEP)
            keys = band_keys(records["signature"][kept])
            documents = np.repeat((start + kept).astype(np.uint64), spool.NUM_BANDS)
            buckets.add(keys.reshape(-1), np.zeros(keys.size, np.uint64), documents)
        leaders = _Leaders(self._work / "leaders", num)
        for entries in buckets:
            for group in _groups(entries):
                _join(np.unique(group), signatures, similarity, leaders)
        signatures.close()
        for lower in range(0, num, 2**20):
            joined = leaders.joined(lower, min(lower + 2**20, num))
            self.verdicts[lower + joined] = NEAR

    def _records(self) -> Iterator[tuple[npt.NDArray[Any], int]]:
        start = 0
        for number, size in enumerate(self._sizes):
            if size:
                yield spool.read_records(self._parts, number), start
            start += size


def _numbers(start: int, num: int) -> Hashes:
    return np.arange(start, start + num, dtype=np.uint64)


class _Buckets:
    """Entries (key, rest, document) in files by the first bits of the key; iterated, one file's entries at a time."""

    def __init__(self, folder: Path, expected: int) -> None:
        folder.mkdir()
        self._bits = max(0, min(expected // _BUCKET_ENTRIES, _MOST_BUCKETS - 1).bit_length())
        self._files = [open(folder / f"{n:04d}", "w+b") for n in range(2**self._bits)]  # noqa: SIM115 - closed when read

    def add(self, keys: Hashes, rest: Hashes, documents: Hashes) -> None:
        entries = np.empty(len(keys), _ENTRY)
        entries["key"], entries["rest"], entries["document"] = keys, rest, documents
        places = self._places(keys)
        order = np.argsort(places, kind="stable")
        bounds = np.searchsorted(places[order], np.arange(len(self._files) + 1))
        for n, file in enumerate(self._files):
            if bounds[n] < bounds[n + 1]:
                file.write(entries[order[bounds[n] : bounds[n + 1]]].tobytes())

    def _places(self, keys: Hashes) -> Hashes:
        return keys >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(keys), np.uint64)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        for file in self._files:
            with file:
                file.seek(0)
                yield np.fromfile(file, _ENTRY)
                file.truncate(0)


def _groups(entries: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.int64]]:
    """Documents with equal keys, in order, where there are two or more."""
    order = np.lexsort((entries["document"], entries["rest"], entries["key"]))
    entries = entries[order]
    same = (entries["key"][1:] == entries["key"][:-1]) & (entries["rest"][1:] == entries["rest"][:-1])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2).tolist():
        yield entries["document"][first : last + 1].astype(np.int64)


class _Signatures:
    """The signatures of all documents, in a file that is read, not mapped: mapped, every page that was looked at would count
    as memory of the process."""

    def __init__(self, file: Path) -> None:
        self._file = open(file, "w+b")  # noqa: SIM115 - see close

    def add(self, signatures: npt.NDArray[np.uint32]) -> None:
        self._file.write(signatures.tobytes())
        self._file.flush()

    def rows(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """[documents, NUM_HASHES]."""
        size = 4 * spool.NUM_HASHES
        found = b"".join(os.pread(self._file.fileno(), size, number * size) for number in documents.tolist())
        return np.frombuffer(found, np.uint32).reshape(len(documents), spool.NUM_HASHES)

    def close(self) -> None:
        self._file.close()


def _join(
    group: npt.NDArray[np.int64], signatures: _Signatures, similarity: float, leaders: _Leaders
) -> None:
    """Join the candidates that are similar to the first of their group or to the one before."""
    rows = signatures.rows(group)
    to_first = (rows[1:] == rows[0]).mean(axis=1) >= similarity
    to_last = (rows[1:] == rows[:-1]).mean(axis=1) >= similarity
    for n in np.flatnonzero(to_first | to_last).tolist():
        leaders.join(int(group[0] if to_first[n] else group[n]), int(group[n + 1]))


class _Leaders:
    """Sets of documents that only grow together (union-find), on disk: 8 bytes a document. The first one leads."""

    def __init__(self, file: Path, num: int) -> None:
        self._leader = np.memmap(file, np.int64, "w+", shape=(num,))
        for lower in range(0, num, 2**20):
            upper = min(lower + 2**20, num)
            self._leader[lower:upper] = np.arange(lower, upper)

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._find(one), self._find(other)))
        self._leader[second] = first

    def joined(self, lower: int, upper: int) -> npt.NDArray[np.int64]:
        """Offsets from `lower` of the documents that are led by another."""
        found: npt.NDArray[np.int64] = np.flatnonzero(self._leader[lower:upper] != np.arange(lower, upper))
        return found

    def _find(self, document: int) -> int:
        path = []
        while (leader := int(self._leader[document])) != document:
            path.append(document)
            document = leader
        self._leader[path] = document
        return document
