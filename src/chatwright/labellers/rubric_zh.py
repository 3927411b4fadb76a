"""The museum's rubric for Chinese: sentence length in characters and the share of common characters stand for the
reading grade; everything else follows the English one (`rubric.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import ClassVar

from chatwright.errors import DataError
from chatwright.labellers.rubric import Item, Score, combine, count_part, falling, keywords_of, plateau, repeated_share
from chatwright.text.readability import han_characters, sentences_zh


def _default_weights() -> Mapping[str, float]:
    return {
        "topic": 0.38,
        "comparison": 0.29,
        "address": 0.18,
        "sentence_length": 0.04,
        "common_characters": 0.03,
        "length": 0.05,
        "sentences": 0.03,
    }


def _default_gates() -> Mapping[str, float]:
    return {"ended": 0.3, "plain": 0.3, "varied": 0.3, "sentence_length": 0.5, "count": 0.4}


@dataclass(frozen=True, kw_only=True)
class ChineseRubric:
    """museum-zh. Lengths are numbers of Chinese characters."""

    needs_keywords: ClassVar[bool] = True
    name: str = "museum-zh"
    """Part of the labeller's name."""
    weights: Mapping[str, float] = field(default_factory=_default_weights)
    """Share of each part in the total; sums to 1."""
    gates: Mapping[str, float] = field(default_factory=_default_gates)
    """Factor on the total when the answer was cut off, holds Latin text or lists, repeats itself, is too hard, or has too
    few or too many sentences."""
    sentence_full: float = 20.0
    """Mean characters per sentence up to which the sentence-length part is 1."""
    sentence_none: float = 40.0
    """Mean characters per sentence from which the sentence-length part is 0."""
    common_full: float = 0.97
    """Share of common characters from which that part is 1."""
    common_none: float = 0.85
    """Share of common characters up to which that part is 0."""
    characters_full: tuple[int, int] = (25, 90)
    """Number of characters (both ends included) for which the length part is 1."""
    characters_none: tuple[int, int] = (8, 160)
    """Number of characters at and beyond which the length part is 0."""
    sentences_full: tuple[int, int] = (2, 4)
    """Number of sentences (both ends included) for which the count part is 1; one more or less is worth 0.5."""
    min_sentence_characters: int = 4
    """A sentence with fewer characters is not a whole one."""
    max_repeated_fourgrams: float = 0.12
    """Share of repeated four-character sequences above which an answer is repetitive."""

    def score(self, item: Item) -> Score:
        """Score one answer. Raises DataError when the item has no key words."""
        keywords = keywords_of({"keywords": item.keywords}, f"question {item.prompt!r}")
        text = item.answer.strip()
        characters = han_characters(text)
        said = [sentence for sentence in sentences_zh(text) if han_characters(sentence)]
        low, high = self.characters_none
        common = sum(1 for char in characters if char in common_characters()) / max(1, len(characters))
        parts = {
            "topic": min(1.0, sum(1 for word in distinct(keywords) if word in text) / 2),
            "comparison": 1.0 if has_comparison_zh(text) else 0.0,
            "address": 1.0 if _ADDRESS.search(text) else 0.0,
            "sentence_length": falling(len(characters) / len(said), self.sentence_full, self.sentence_none) if said else 0.0,
            "common_characters": falling(-common, -self.common_full, -self.common_none),
            "length": plateau(len(characters), low, *self.characters_full, high),
            "sentences": self._whole_sentences(said),
            "count": count_part(len(said), *self.sentences_full),
            "ended": 1.0 if item.ended else 0.0,
            "plain": 0.0 if _MARKUP.search(text) or _LATIN.search(text) else 1.0,
            "varied": 1.0 if self._is_varied(said, characters) else 0.0,
        }
        return combine(parts, self.weights, self.gates)

    def _whole_sentences(self, said: Sequence[str]) -> float:
        """Share of sentences with enough characters that end in 。！ or ？"""
        if not said:
            return 0.0
        whole = (
            1 for sentence in said if _END.search(sentence) and len(han_characters(sentence)) >= self.min_sentence_characters
        )
        return sum(whole) / len(said)

    def _is_varied(self, said: Sequence[str], characters: Sequence[str]) -> bool:
        stripped = ["".join(han_characters(sentence)) for sentence in said]
        repeated = len(set(stripped)) < len(stripped) or _STUTTER.search("".join(characters))
        return not repeated and repeated_share(characters, 4) <= self.max_repeated_fourgrams


_END = re.compile(r"[。！？!?][”’」』）)\"]*$")
_ADDRESS = re.compile(r"你|我们|咱们|小朋友|想一想|想想看|想象一下|猜一猜|试一试")
_LATIN = re.compile(r"[a-z\u00c0-\u024f]|[A-Z]{4,}|\ufffd|[\u3040-\u30ff\uac00-\ud7af]")  # "DNA" and "X光" may stand
_MARKUP = re.compile(
    r"^\s*(?:[-*•+>#|]|\d+[.)、．]|[一二三四五六七八九十]+、|[(（]\d+[)）])"
    r"|\*\*|__|`|\]\(|<[a-z/|]|\\[a-z(]|1[.)、．].*2[.)、．]|[：:]\s*$"
    r"|^\s*(?:用户|助手|问题?|答案?)\s*[：:]",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_STUTTER = re.compile(r"(.{2,})\1\1")  # "哈哈哈哈" may stand as a laugh of four, "很大很大很大" may not
_COMPARISON = re.compile(
    r"就像|好像|好比|仿佛|如同|像是|犹如|当成|当作|想象成"
    r"|(?<![图头肖画雕塑佛偶想录摄影群遗不])像(?=[\u4e00-\u9fff])(?![^。！？!?，,；;]{0,10}(?:这样的|之类|等等))"
    r"|比[^。！？!?，,；;]{1,12}(?:还要?|更)"
)


def has_comparison_zh(text: str) -> bool:
    """Whether the text compares (像…一样, 好像, 就像, 仿佛, 比…还); 图像 and its kin are no comparisons."""
    return bool(_COMPARISON.search(text))


def distinct(keywords: Sequence[str]) -> list[str]:
    """Key words without those that contain another one of the list (where 蜜蜂 is found, 蜂 would be too)."""
    unique = list(dict.fromkeys(keywords))
    return [word for word in unique if not any(other != word and other in word for other in unique)]


@cache
def common_characters() -> frozenset[str]:
    """The bundled list of common simplified characters. DataError when the installation lacks it."""
    path = resources.files("chatwright") / "bundled/museum/zh/common_chars.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: the list of common characters is missing; install chatwright again.") from None
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(han_characters("".join(lines)))
