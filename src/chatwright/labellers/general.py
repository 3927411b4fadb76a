"""general-en: what most people want of an answer to most English questions, as a number. It needs no key words.

A stand-in for people in tests, examples and the flywheel benchmark, and never a finding about people. It likes an answer
that ends by itself, is short, begins with the matter, stays with what was asked, and says nothing twice. It cannot tell
whether an answer is true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from chatwright.labellers.rubric import Item, Score, combine, plateau, repeated_share
from chatwright.text.readability import sentences, words

_OPENINGS = re.compile(
    r"^\W*(?:as an? (?:ai|artificial|language|large)|i[’']?a?m (?:sorry|glad|happy|an ai|a (?:large )?language|just an)"
    r"|i (?:apologi[sz]e|do not have|don[’']t have)|(?:sure|certainly|of course|absolutely|great|good question)\b"
    r"|here (?:is|are)\b|here[’']s\b|(?:that|this)(?: i|[’']| wa)s an? (?:great|good|interesting|excellent|fascinating)"
    r"|what an? (?:great|good|interesting)|thank(?:s| you)|hello\b|hi\b)",
    re.IGNORECASE,
)
_ASKS_BACK = re.compile(r"\?[\"'”’)\s]*$")
_PLACEHOLDER = re.compile(r"\[[A-Z][\w' ]*\]|<[a-z_]+>|\ufffd|lorem ipsum", re.IGNORECASE)
_ROLE = re.compile(r"^\s*(?:user|assistant|system|human|question|answer)\s*:", re.IGNORECASE | re.MULTILINE)
_STOP = frozenset(
    "about above after again also always another anyone anything because been before being below between both cannot come "
    "could does doing down during each even ever every from gave give good have having here how into just know like made "
    "make many more most much must need never only other over please said same shall should since some such take tell than "
    "that the their them then there these they thing things this those through under until upon used using very want was "
    "were what when where which while who whom whose why will with within without would write you your explain "
    "describe".split()
)


def _weights() -> Mapping[str, float]:
    return {"short": 0.14, "relevant": 0.34, "direct": 0.16, "whole": 0.14, "one_thread": 0.22}


def _gates() -> Mapping[str, float]:
    return {"ended": 0.6, "varied": 0.5, "clean": 0.5}


@dataclass(frozen=True, kw_only=True)
class GeneralRubric:
    """See the module. `Item.keywords` are not used. Length itself weighs little: a rubric that is mostly length teaches a
    reward model nothing else, and the gate of the report card would rightly close.
    """

    needs_keywords: ClassVar[bool] = False
    name: str = "general-en"
    """Part of the labeller's name."""
    weights: Mapping[str, float] = field(default_factory=_weights)
    """Share of each part in the total; sums to 1."""
    gates: Mapping[str, float] = field(default_factory=_gates)
    """Factor on the total when the answer was cut off, repeats itself, or holds place-holders or other roles' turns."""
    words_full: tuple[int, int] = (12, 70)
    """Number of words (both ends included) for which the length part is 1."""
    words_none: tuple[int, int] = (2, 200)
    """Number of words at and beyond which the length part is 0."""
    max_repeated_trigrams: float = 0.10
    """Share of repeated word trigrams above which an answer is repetitive."""
    relevant_words: int = 3
    """So many of the question's own content words (or all it has, when fewer) make the relevance part 1."""

    def score(self, item: Item) -> Score:
        """Score one answer."""
        text = item.answer.strip()
        found = [word.lower() for word in words(text)]
        low, high = self.words_none
        said = [" ".join(words(sentence)).lower() for sentence in sentences(text)]
        varied = len(set(said)) == len(said) and repeated_share(found, 3) <= self.max_repeated_trigrams
        parts = {
            "short": plateau(len(found), low, *self.words_full, high),
            "relevant": self._relevant(item.prompt, found),
            "direct": 0.0 if not found or _OPENINGS.search(text) else 1.0,
            "whole": _whole(text),
            "one_thread": 1.0 if found and "\n\n" not in text and not _ASKS_BACK.search(text) else 0.0,
            "ended": 1.0 if item.ended else 0.0,
            "varied": 1.0 if varied and found else 0.0,
            "clean": 0.0 if _PLACEHOLDER.search(text) or _ROLE.search(text) else 1.0,
        }
        return combine(parts, self.weights, self.gates)

    def _relevant(self, prompt: str, found: list[str]) -> float:
        asked = {_stem(word) for word in content_words(prompt)}
        if not asked:
            return 1.0 if found else 0.0
        used = len(asked & {_stem(word) for word in found})
        return min(1.0, used / min(self.relevant_words, len(asked)))


def content_words(text: str) -> list[str]:
    """Words of four letters or more that carry a meaning of their own."""
    return [word for word in (w.lower() for w in words(text)) if len(word) >= 4 and word not in _STOP]


def _stem(word: str) -> str:
    """Rough: endings are cut and five letters kept, so that inflected forms of a word are one."""
    return re.sub(r"(?:ing|edly|ed|ies|es|s|ly|y|e)$", "", word)[:5] if len(word) > 4 else word


def _whole(text: str) -> float:
    """Share of sentences that begin like one and end like one."""
    found = sentences(text)
    whole = [s for s in found if re.match(r"[\"'“‘(]*[A-Z0-9]", s) and re.search(r"[.!?:][\"'”’)]*$", s)]
    return len(whole) / len(found) if found else 0.0
