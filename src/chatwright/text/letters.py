"""What a character is (a letter of which script, a digit, a mark), as tables over all code points, and the words of a text.

A *unit* is what counts as a word in every script: a run of letters, digits and marks, except that each Han, Kana, Hangul,
Thai, Lao, Khmer or Myanmar letter is a unit of its own, as these are written without blanks (Hangul has blanks, but its
syllables carry what words do elsewhere). Everything here is numpy over whole texts: corpora are large. No torch.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from chatwright.text.scripts import SCRIPTS

NUM_CODE_POINTS = 0x110000
OTHER_SCRIPT = len(SCRIPTS) + 1
SCRIPT_NAMES = ("", *SCRIPTS, "Other")
"""Script numbers -> names; 0 is no letter, the last one a letter of a script that we do not name."""
_ALONE = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar")
# The first word of a letter's Unicode name is its script, with these exceptions.
_BY_NAME = {
    **{name.upper(): n for n, name in enumerate(SCRIPT_NAMES) if name and name != "Other"},
    "CJK": SCRIPT_NAMES.index("Han"), "IDEOGRAPHIC": SCRIPT_NAMES.index("Han"),
    "HENTAIGANA": SCRIPT_NAMES.index("Hiragana"), "FEMININE": SCRIPT_NAMES.index("Latin"),
    "MASCULINE": SCRIPT_NAMES.index("Latin"), "KELVIN": SCRIPT_NAMES.index("Latin"), "ANGSTROM": SCRIPT_NAMES.index("Latin"),
}  # fmt: skip
_LETTER, _DIGIT, _MARK, _SPACE, _CONTROL = 1, 2, 3, 4, 5

Codes = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]


def codes(text: str) -> Codes:
    """The code points of a text, [number of characters]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1)
def script_table() -> npt.NDArray[np.uint8]:
    """[code points] -> script number (`SCRIPT_NAMES`); 0 for what is no letter."""
    table = np.zeros(NUM_CODE_POINTS, np.uint8)
    for point in range(NUM_CODE_POINTS):
        character = chr(point)
        if character.isalpha():
            name = unicodedata.name(character, "").removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ")
            table[point] = _BY_NAME.get(name.partition(" ")[0].partition("-")[0], OTHER_SCRIPT)
    return table


@lru_cache(maxsize=1)
def kind_table() -> npt.NDArray[np.uint8]:
    """[code points] -> letter 1, digit 2, mark 3, white space 4, control 5, anything else 0."""
    table = np.zeros(NUM_CODE_POINTS, np.uint8)
    kinds = {"L": _LETTER, "N": _DIGIT, "M": _MARK, "Z": _SPACE, "C": _CONTROL}
    for point in range(NUM_CODE_POINTS):
        table[point] = kinds.get(unicodedata.category(chr(point))[0], 0)
    table[[9, 10, 11, 12, 13]] = _SPACE
    return table


@lru_cache(maxsize=1)
def _alone_table() -> npt.NDArray[np.bool_]:
    return np.isin(script_table(), [SCRIPT_NAMES.index(name) for name in _ALONE])


@dataclass(frozen=True, kw_only=True)
class Words:
    """The units of a text."""

    hashes: Hashes
    """[units]: a hash of each unit, without regard to case."""
    lengths: npt.NDArray[np.int64]
    """[units]: characters of each."""
    num_alone: int
    """Units of scripts written without blanks."""


def words(text: str) -> Words:
    """The units of a text, hashed: the same on every machine and in every run."""
    points = codes(text.lower())
    kinds = kind_table()[points]
    inside = (kinds == _LETTER) | (kinds == _DIGIT) | (kinds == _MARK)
    alone = _alone_table()[points]
    before = np.concatenate([[False], inside[:-1]]) if len(points) else inside
    alone_before = np.concatenate([[False], alone[:-1]]) if len(points) else alone
    # A mark belongs to the letter before it, also where letters stand alone.
    begins = inside & (~before | ((alone | alone_before) & (kinds != _MARK)))
    starts = np.flatnonzero(begins)
    number = np.cumsum(begins)
    counts = np.bincount(number[inside], minlength=len(starts) + 1)[1:] if len(starts) else np.zeros(0, np.int64)
    return Words(hashes=_hash_spans(points, starts, starts + counts), lengths=counts, num_alone=int(alone[starts].sum()))


def windows(hashes: Hashes, size: int) -> Hashes:
    """[len - size + 1]: one hash for every `size` hashes in a row; empty when there are fewer."""
    if len(hashes) < size:
        return np.zeros(0, np.uint64)
    num = len(hashes) - size + 1
    found = np.zeros(num, np.uint64)
    for offset in range(size):
        found = found * _BASE + hashes[offset : offset + num]
    return mixed(found)


# ---- hashing: sums of c * BASE^i, so that a whole text is hashed at once --------------------------------------

# An odd number has an inverse modulo 2^64: spans are moved to position 0 by multiplying with it.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_powers: dict[str, Hashes] = {}


def _power_table(num: int) -> tuple[Hashes, Hashes]:
    """BASE^i and its inverse for i < num at least."""
    if "up" not in _powers or len(_powers["up"]) < num:
        size = max(num, 4096)
        for name, base in (("up", _BASE), ("down", _INVERSE)):
            steps = np.full(size, base, np.uint64)
            steps[0] = 1
            _powers[name] = np.cumprod(steps)
    return _powers["up"], _powers["down"]


_BLOCK = 2**16


def _hash_spans(points: Codes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Hashes:
    """One hash for the characters of each span; spans of equal characters have equal hashes wherever they stand.

    In blocks, so that the table of powers stays small; a span may reach into the next block."""
    found = np.zeros(len(starts), np.uint64)
    longest = int((ends - starts).max()) if len(starts) else 0
    up, down = _power_table(min(len(points), _BLOCK + longest))
    for lower in range(0, len(points), _BLOCK):
        chosen = slice(*np.searchsorted(starts, [lower, lower + _BLOCK]).tolist())
        upper = min(len(points), lower + _BLOCK + longest)
        part = (points[lower:upper] + np.uint64(1)) * up[: upper - lower]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(part)])
        first, last = starts[chosen] - lower, ends[chosen] - lower
        found[chosen] = mixed((sums[last] - sums[first]) * down[first])
    return found


def mixed(values: Hashes) -> Hashes:
    """The finaliser of splitmix64: every bit of the result depends on every bit given."""
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values = values ^ (values >> np.uint64(27))
    values = values * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
