"""Content words of questions, and the share of them that two wordings have in common."""

from __future__ import annotations

from chatwright.house.language import Language
from chatwright.house.normal import fold, raw_tokens
from chatwright.house.sheet import Question

MAX_OVERLAP = 0.5
"""A held-out or sealed question shares at most this part of its content words with any taught question of its fact."""


def content_words(question: Question, language: Language) -> frozenset[str]:
    """Content words of the visitor's turns.

    English: words without stop words and plural s. Chinese: bigrams of characters in runs from which stop words are
    removed (longest first); a single character counts as itself.
    """
    text = "\n".join(question.turns[::2])
    if language.name == "zh":
        text = _without_chinese_stop_words(fold(text), language.stop_words)
    words: set[str] = set()
    run = ""
    for token in raw_tokens(text):
        if token.kind == "cjk" and token.glued and run:
            words.add(run[-1] + token.text)
            run += token.text
            continue
        words |= _single(run)
        run = token.text if token.kind == "cjk" else ""
        if token.kind in ("word", "digits") and token.text not in language.stop_words:
            words.add(token.text)
    return frozenset(words | _single(run))


def _single(run: str) -> set[str]:
    return {run} if len(run) == 1 else set()


def _without_chinese_stop_words(text: str, stop_words: frozenset[str]) -> str:
    for word in sorted(stop_words, key=len, reverse=True):
        text = text.replace(word, " ")
    return text


def overlap(question: frozenset[str], other: frozenset[str]) -> float:
    """Share of the content words of `question` that `other` has; 1.0 when `question` has none."""
    return len(question & other) / len(question) if question else 1.0
