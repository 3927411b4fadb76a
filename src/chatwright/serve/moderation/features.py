"""Hashed n-grams of characters and words, as sparse rows in plain numpy.

Legend: N texts, F hash buckets, E entries of all rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_WORD = re.compile(r"[a-z0-9']+")
_M1, _M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, kw_only=True)
class NGrams:
    """Which n-grams a text becomes."""

    char_from: int
    char_to: int
    """Shortest and longest n-gram of characters."""
    word_to: int = 0
    """Longest n-gram of words; 0: none."""
    skip: int = 0
    """Pairs of characters with up to so many others between them; 0: none."""
    bits: int = 20
    """log2 of the number of buckets F."""


@dataclass(frozen=True)
class Rows:
    """N sparse rows: entry e of row i has bucket `columns[e]` and `values[e]`, starts[i] <= e < starts[i + 1]."""

    starts: Ints
    """[N + 1]"""
    columns: Ints
    """[E]"""
    values: Floats
    """[E]"""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def row_of(self) -> Ints:
        """Row of each entry [E]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def dot(self, weights: npt.NDArray[np.floating]) -> Doubles:
        """Rows times weights [F] -> [N]."""
        products = np.append(self.values * weights[self.columns], 0.0)
        sums = np.add.reduceat(products, self.starts[:-1]) if len(self) else np.zeros(0)
        return np.where(np.diff(self.starts) > 0, sums, 0.0).astype(np.float64)

    def take(self, picked: Sequence[int] | Ints) -> Rows:
        """Some of the rows, in that order."""
        lengths = np.diff(self.starts)[picked]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        offsets = np.repeat(self.starts[:-1][picked] - starts[:-1], lengths) + np.arange(starts[-1])
        return Rows(starts, self.columns[offsets], self.values[offsets])


def counts(texts: Sequence[str], grams: NGrams) -> Rows:
    """Rows of 1 + log(count) per bucket, of normalised texts."""
    columns, values, lengths = [], [], []
    for text in texts:
        hashed = _hashes(text, grams) & np.uint64(2**grams.bits - 1)
        buckets, number = np.unique(hashed, return_counts=True)
        columns.append(buckets.astype(np.int64))
        values.append((1.0 + np.log(number)).astype(np.float32))
        lengths.append(len(buckets))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if not columns:
        return Rows(starts, np.zeros(0, np.int64), np.zeros(0, np.float32))
    return Rows(starts, np.concatenate(columns), np.concatenate(values))


def _hashes(text: str, grams: NGrams) -> npt.NDArray[np.uint64]:
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    parts = []
    for n in range(grams.char_from, grams.char_to + 1):
        if len(codes) >= n:
            parts.append(_ngram(codes, n, seed=n))
    for gap in range(1, grams.skip + 1):
        if len(codes) > gap + 1:
            parts.append(_mix(_mix(codes[: -gap - 1], 101) + codes[gap + 1 :], 101))
    if grams.word_to:
        words = np.array([_word_hash(word) for word in _WORD.findall(text)], dtype=np.uint64)
        for n in range(1, grams.word_to + 1):
            if len(words) >= n:
                parts.append(_ngram(words, n, seed=200 + n))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _ngram(codes: npt.NDArray[np.uint64], n: int, seed: int) -> npt.NDArray[np.uint64]:
    state = np.zeros(len(codes) - n + 1, dtype=np.uint64)
    for place in range(n):
        state = _mix(state + codes[place : len(codes) - n + 1 + place], seed)
    return state


def _mix(state: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed: npt.NDArray[np.uint64] = (state + np.uint64(seed)) * _M1
        mixed = (mixed ^ (mixed >> _SHIFT)) * _M2
        return mixed ^ (mixed >> _SHIFT)


def _word_hash(word: str) -> int:
    value = 14695981039346656037
    for byte in word.encode():
        value = ((value ^ byte) * 1099511628211) & (2**64 - 1)
    return value
