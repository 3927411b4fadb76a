"""Figures of a set of answers: diversity, duplicates, endings, length, reading grade."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chatwright.text.readability import flesch_kincaid_grade, han_characters, words

_UNIT = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff]+(?:['’][^\W\d_]+)*|\d+")


def units(text: str) -> list[str]:
    """What diversity counts: lower-case words, and every Chinese character for itself."""
    return [unit.lower() for unit in _UNIT.findall(text)]


def distinct_n(texts: Sequence[str], n: int = 2, budget: int | None = None) -> float:
    """Distinct n-grams / all n-grams of the first `budget` units of the texts together; 0.0 when there are none.

    The share falls as text grows, so two sets are only comparable at an equal budget (`equal_budget`). Units are
    taken round by round, the first of every text, then the second, ...: each text gives its beginning and none is
    left out because others are long. N-grams never cross from one text into another.
    """
    kept = _prefixes([units(text) for text in texts], budget)
    grams = [tuple(row[i : i + n]) for row in kept for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def equal_budget(*sets: Sequence[str]) -> int:
    """The largest number of units that every one of these sets of texts has."""
    return min(sum(len(units(text)) for text in texts) for texts in sets)


def _prefixes(rows: Sequence[list[str]], budget: int | None) -> list[list[str]]:
    """Prefixes with `budget` units in all, as even as the rows allow."""
    if budget is None or budget >= sum(len(row) for row in rows):
        return list(rows)
    depth = 0
    while sum(min(len(row), depth + 1) for row in rows) <= budget:
        depth += 1
    left = budget - sum(min(len(row), depth) for row in rows)
    prefixes = []
    for row in rows:
        extra = 1 if left > 0 and len(row) > depth else 0
        left -= extra
        prefixes.append(row[: depth + extra])
    return prefixes


def normalised(text: str) -> str:
    """For comparing answers: units only, so case, spacing and punctuation make no difference."""
    return " ".join(units(text))


def duplicate_pairs(answers: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Pairs of different questions (i < j) that have an answer in common, after normalising; answers [Q][S]."""
    seen: dict[str, list[int]] = {}
    for question, texts in enumerate(answers):
        for text in {normalised(text) for text in texts}:
            seen.setdefault(text, []).append(question)
    return sorted({(i, j) for group in seen.values() for i in group for j in group if i < j})


def duplicate_share(answers: Sequence[Sequence[str]]) -> float:
    """Share of answers that equal an answer to the same or another question, after normalising."""
    keys = [normalised(text) for texts in answers for text in texts]
    return sum(1 for key in keys if keys.count(key) > 1) / len(keys) if keys else 0.0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0.0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def num_words(text: str, language: str = "en") -> int:
    """Length of an answer: words, or Chinese characters when `language` is Chinese."""
    return len(han_characters(text)) if language.startswith("zh") else len(words(text))


def mean_grade(texts: Sequence[str]) -> float:
    """Mean Flesch-Kincaid grade over answers that have words."""
    return mean([flesch_kincaid_grade(text) for text in texts if words(text)])
