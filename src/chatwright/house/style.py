"""The style of an answer: one to three short, warm, whole sentences without lists, as a number in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chatwright.house.forms import Text
from chatwright.house.language import Language

MAX_SENTENCES = 3
MIN_WORDS = {"en": 8, "zh": 12}
"""Words (Chinese: characters) from which an answer is a full one; below, the part falls in proportion."""
MAX_WORDS = {"en": 30, "zh": 50}
"""Words (Chinese: characters) up to which an answer is short; at twice this length the part is 0."""
WARM_WORDS = 2
"""Different warm words that a warm answer has."""
_SENTENCE = re.compile(r"[^.!?。！？…\n]*[.!?。！？…\n]+[\"'”’」)]*|[^.!?。！？…\n]+$")
_INNER_POINT = re.compile(
    r"(?<=\b[A-Za-z]r)\.(?=\s)|(?<=\b[A-Za-z]rs)\.(?=\s)|(?<=\d)\.(?=\d)|(?<=\b[ap])\.(?=m\b)|(?<=\b[ap]\.m)\.(?=\s+[a-z])"
)
_POINT = "\ue000"  # stands for a point that ends no sentence
_LIST = re.compile(r"^[^\S\n]*(?:[-*•+>#|]|\d{1,3}[.)、]\s)|\*\*|__|`|https?:|<[a-z/|]|:\s*$", re.MULTILINE | re.IGNORECASE)
_NO_MARKS = str.maketrans("", "", ".!?。！？ ")
_END = re.compile(r"[.!?。！？…][\"'”’」)]*$")


def sentences(text: str) -> list[str]:
    """Sentences of a text; "Mr.", "p.m." and decimal points end none."""
    text = _INNER_POINT.sub(_POINT, text)
    return [found for match in _SENTENCE.finditer(text) if (found := match.group().strip().replace(_POINT, "."))]


def style_score(text: str, *, ended: bool, language: Language) -> float:
    """Mean of four parts (count of sentences, length, whole sentences, warmth), times 0.3 for each of: a list or markup,
    an answer cut at the token limit, a sentence that repeats another. 0 for an empty answer.
    """
    text = text.strip()
    found = sentences(text)
    if not found:
        return 0.0
    parts = (
        1.0 if len(found) <= MAX_SENTENCES else 0.5 if len(found) == MAX_SENTENCES + 1 else 0.0,
        _length(text, language),
        sum(_is_whole(sentence, language) for sentence in found) / len(found),
        _warmth(text, language),
    )
    faults = (_LIST.search(text) is not None) + (not ended) + _repeats(found)
    return float(sum(parts) / len(parts) * 0.3**faults)


def _length(text: str, language: Language) -> float:
    length = sum(not c.isspace() for c in text) if language.name == "zh" else len(text.split())
    least, most = MIN_WORDS[language.name], MAX_WORDS[language.name]
    return max(0.0, min(1.0, length / least, (2 * most - length) / most))


def _warmth(text: str, language: Language) -> float:
    read = Text(text)
    return min(1.0, sum(bool(read.find(form)) for form in language.warm) / WARM_WORDS)


def _is_whole(sentence: str, language: Language) -> bool:
    begins = sentence.lstrip("\"'“‘「(")[:1]
    starts_well = not begins.islower() if language.name == "en" else True
    enough = len(sentence.split()) >= 2 if language.name == "en" else len(sentence) >= 3
    return starts_well and enough and _END.search(sentence) is not None


def _repeats(found: Sequence[str]) -> bool:
    said = [sentence.lower().translate(_NO_MARKS) for sentence in found]
    return len(set(said)) < len(said)
