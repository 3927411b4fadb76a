"""Normalised text for comparing wordings, and the raw tokens that the lexer builds on. Every step is linear in the text."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_CJK = "\u3400-\u4dbf\u4e00-\u9fff"
_RAW = re.compile(
    rf"(?P<cjk>[{_CJK}])|(?P<digits>\d+(?:[.,:]\d+)*)|(?P<word>(?:(?![{_CJK}_])[^\W\d])+(?:'(?:(?![{_CJK}_])[^\W\d])+)*\*?)"
    r"|(?P<symbol>[$€£¥%])|(?P<stop>[.!?。\n]+)|(?P<comma>[,;:()、—]|\s[–-]\s)|(?P<dash>[-–])"
)
_MERIDIAN = re.compile(r"\b([ap])\.\s?m\b\.?")
_CONTRACTIONS = {"t": "not", "re": "are", "ll": "will", "ve": "have", "m": "am", "d": "would"}
_WHOLE_CONTRACTIONS = {"can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not"}
_ABBREVIATIONS = frozenset(("mr", "mrs", "ms", "dr", "st", "prof"))


class RawToken(NamedTuple):
    """One piece of a text before numbers, times and prices are recognised."""

    kind: str
    """cjk (one character), digits, word, symbol, stop, comma or dash."""
    text: str
    """Lower case, without accents; a word without its plural s and possessive."""
    glued: bool
    """True when no space stands between this token and the one before."""


def wording_key(text: str) -> str:
    """Letters and digits of a text in lower case (NFKC): two wordings with one key are duplicates."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def fold(text: str) -> str:
    """NFKC, lower case, straight quotes, no accents, one spelling of the Chinese words for "week"."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("‘", "'")
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = unicodedata.normalize("NFC", text)
    text = text.replace("星期", "周").replace("礼拜", "周").replace("周天", "周日")
    return _MERIDIAN.sub(r"\1m", text)


def raw_tokens(text: str) -> list[RawToken]:
    """Raw tokens of a text in their order; contractions are written out ("isn't" -> is, not)."""
    tokens: list[RawToken] = []
    end = -1
    for match in _RAW.finditer(fold(text)):
        kind, glued = str(match.lastgroup), match.start() == end
        end = match.end()
        if kind == "word":
            tokens += [RawToken(kind, word, glued) for word in _words(match.group())]
        elif kind == "stop" and match.group() == "." and tokens and tokens[-1].text in _ABBREVIATIONS:
            continue
        else:
            tokens.append(RawToken(kind, match.group(), glued))
    return tokens


def _words(text: str) -> tuple[str, ...]:
    if text in _WHOLE_CONTRACTIONS:
        return tuple(_WHOLE_CONTRACTIONS[text].split())
    if text in ("o'clock", "oclock"):
        return ("oclock",)
    head, _, tail = text.partition("'")
    if tail == "t" and head.endswith("n") and len(head) > 2:
        return (stem(head[:-1]), "not")
    if tail in _CONTRACTIONS and tail != "t":
        return (stem(head), _CONTRACTIONS[tail])
    return (stem(head if tail in ("s", "") else head + tail),)


def stem(word: str) -> str:
    """A word without its plural s: "tickets" -> ticket, "boxes" -> box; short words and those in -ss, -us, -is stay."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]
    return word
