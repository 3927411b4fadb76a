"""Quality heuristics of one document: lengths, symbols, repetition. The first rule that fails names the reason.

They are Gopher's (arXiv 2112.11446, table A1), counted so that scripts without blanks are treated alike: a word is what
`text.letters.words` says, and shares are of characters.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from chatwright.data.corpus_build.config import QualityConfig
from chatwright.text.letters import NUM_CODE_POINTS, Hashes, Words, codes, kind_table, windows, words

_LETTER, _DIGIT, _MARK, _SPACE = 1, 2, 3, 4
_BULLETS = tuple("-*•·‣▪●○◦–")
_ELLIPSES = ("...", "…", "。。。")
_PUNCTUATION = ".,;:!?'\"()-–—‘’“”«»¡¿·/。，、；：！？（）《》〈〉「」『』【】…‥"


def quality_reason(text: str, cfg: QualityConfig, counted: Words | None = None) -> str:
    """Why the document is dropped, "" when it is kept. `counted`: its words, when they are known already."""
    if len(text) < cfg.min_bytes and len(text.encode("utf-8", "surrogatepass")) < cfg.min_bytes:
        return "too short"
    if text.count("\ufffd") > cfg.max_replaced * len(text):
        return "decoded wrongly"
    counted = counted if counted is not None else words(text)
    return _characters(text, counted, cfg) or _lines(text, cfg) or _repetition(text, counted, cfg)


def _characters(text: str, counted: Words, cfg: QualityConfig) -> str:
    num = len(counted.hashes)
    if num < cfg.min_words:
        return "too few words"
    if num > cfg.max_words:
        return "too many words"
    spaced = num - counted.num_alone
    if spaced > counted.num_alone and cfg.max_mean_word:
        mean = (int(counted.lengths.sum()) - counted.num_alone) / spaced
        if mean > cfg.max_mean_word:
            return "words too long"
    points = codes(text)
    kinds = kind_table()[points]
    counts = np.bincount(kinds, minlength=6)
    if counts[_LETTER] + counts[_MARK] < cfg.min_letters * (len(text) - counts[_SPACE]):
        return "too few letters"
    symbols = int(counts[0] + counts[5]) - int(_punctuation_table()[points].sum())
    if cfg.max_symbols < 1.0 and symbols > cfg.max_symbols * num:
        return "too many symbols"
    return ""


@lru_cache(maxsize=1)
def _punctuation_table() -> npt.NDArray[np.bool_]:
    table = np.zeros(NUM_CODE_POINTS, np.bool_)
    table[[ord(character) for character in _PUNCTUATION]] = True
    return table


def _lines(text: str, cfg: QualityConfig) -> str:
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    num = len(lines)
    if sum(line.startswith(_BULLETS) for line in lines) > cfg.max_bullet_lines * num:
        return "bullet points"
    if sum(line.endswith(_ELLIPSES) for line in lines) > cfg.max_ellipsis_lines * num:
        return "ellipses"
    repeated = 0
    characters = 0
    seen: set[str] = set()
    for line in lines:
        if line in seen:
            repeated += 1
            characters += len(line)
        seen.add(line)
    if repeated > cfg.max_repeated_lines * num:
        return "repeated lines"
    if characters > cfg.max_repeated_line_characters * sum(map(len, lines)):
        return "repeated lines"
    return ""


def _repetition(text: str, counted: Words, cfg: QualityConfig) -> str:
    num = len(counted.hashes)
    if num < cfg.repetition_words:
        return ""
    total = int(counted.lengths.sum())
    ends = np.cumsum(counted.lengths)
    longest = int(counted.lengths.max())
    for size, factor in ((2, 1.0), (3, 0.9), (4, 0.8)):
        limit = factor * cfg.max_top_ngram
        if cfg.max_top_ngram < 1.0 and _top_share(counted.hashes, ends, size, longest, limit * total) > limit * total:
            return "repeated phrase"
    # Gopher's limits fall from 0.15 for 5-grams to 0.10 for 10-grams; two of the six sizes say nearly what all do.
    for size in (5, 10):
        limit = (cfg.max_repeated_ngrams - 0.01 * (size - 5)) * total
        if cfg.max_repeated_ngrams < 1.0 and _repeated(counted.hashes, counted.lengths, size, longest, limit) > limit:
            return "repeated phrases"
    return ""


def _top_share(hashes: Hashes, ends: npt.NDArray[np.int64], size: int, longest: int, limit: float) -> int:
    """Characters in the most frequent n-gram; 0 when that cannot be more than `limit`."""
    grams = windows(hashes, size)
    if not len(grams) or _most(grams) * size * longest <= limit:
        return 0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    best = int(counts.argmax())
    if counts[best] < 3:  # twice is no pattern
        return 0
    start = int(first[best])
    return int(ends[start + size - 1] - (ends[start - 1] if start else 0)) * int(counts[best])


def _most(grams: Hashes) -> int:
    """How often the most frequent one comes. Sorting alone is far quicker than `np.unique` with counts."""
    ordered = np.sort(grams)
    edges = np.flatnonzero(ordered[1:] != ordered[:-1])
    return int(np.diff(np.concatenate([[-1], edges, [len(grams) - 1]])).max())


def _repeated(hashes: Hashes, lengths: npt.NDArray[np.int64], size: int, longest: int, limit: float) -> int:
    """Characters inside n-grams that stood earlier in the text, overlapping ones counted once; 0 when these cannot be more
    than `limit`."""
    grams = windows(hashes, size)
    ordered = np.sort(grams)
    if int((ordered[1:] == ordered[:-1]).sum()) * size * longest <= limit:
        return 0
    _, first, inverse = np.unique(grams, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(grams)))
    edges = np.zeros(len(lengths) + 1, np.int64)
    np.add.at(edges, again, 1)
    np.add.at(edges, again + size, -1)
    return int(lengths[np.cumsum(edges[:-1]) > 0].sum())
