"""The museum's rubric: how well an answer suits a six-year-old, as one number with its parts.

A rubric is a programmatic judge. It stands in for a person when answers are ranked (`simulated.py`, with noise) and,
free of noise, as the gold measure of evaluation. Its highest total is `MAX_TOTAL` = 1.0, written here once:

    total = (weighted mean of the parts in [0, 1]) * (a factor for every gate the answer fails)

This file holds the types and the English rubric; the Chinese one is in `rubric_zh.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from chatwright.errors import ConfigError, DataError
from chatwright.records import Prompt
from chatwright.text.readability import flesch_kincaid_grade, sentences, words

MAX_TOTAL = 1.0


@dataclass(frozen=True, kw_only=True)
class Item:
    """One answer to be scored."""

    prompt: str
    """The question as it was asked."""
    answer: str
    """The answer's text, without control tokens."""
    keywords: tuple[str, ...]
    """Hand-written words an answer on the topic would use; must not be empty."""
    ended: bool
    """True when the model stopped by itself, False when it was cut at the token limit."""


@dataclass(frozen=True)
class Score:
    """A rubric's verdict."""

    total: float
    """Between 0 and MAX_TOTAL."""
    parts: dict[str, float]
    """Every part and gate in [0, 1], in the order in which the rubric lists them."""


class Rubric(Protocol):
    """What labellers and evaluation need of a rubric."""

    @property
    def name(self) -> str:
        """Short name, part of the labeller's name: "museum-en"."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Share of each part in the total; sums to 1."""

    @property
    def gates(self) -> Mapping[str, float]:
        """Factor each gate multiplies the total by when it is failed."""

    @property
    def needs_keywords(self) -> bool:
        """Whether prompts must carry key words."""

    def score(self, item: Item) -> Score:
        """Score one answer."""


def keywords_for(rubric: Rubric, meta: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The key words of a prompt's row where the rubric needs them; see `keywords_of`."""
    return keywords_of(meta, where) if rubric.needs_keywords else ()


def keywords_of(meta: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The `keywords` field of a prompt's row; DataError (naming `where`) when it is absent or not a list of words."""
    found = meta.get("keywords")
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise DataError(
            f"{where}: keywords: absent or empty, but the museum rubric judges by them whether an answer is on topic. "
            'Add "keywords": ["word", ...] to the prompt\'s row, or use another labeller.'
        )
    if not all(isinstance(word, str) and word.strip() for word in found):
        raise DataError(f"{where}: keywords: every key word must be a non-empty string, got {found!r}.")
    return tuple(word.strip() for word in found)


def combine(parts: Mapping[str, float], weights: Mapping[str, float], gates: Mapping[str, float]) -> Score:
    """Weighted sum of the parts, times factor ** (1 - gate part) for every gate (so a gate at 1 changes nothing)."""
    total = sum(weight * parts[name] for name, weight in weights.items())
    for name, factor in gates.items():
        total *= factor ** (1.0 - parts[name])
    return Score(min(MAX_TOTAL, total), dict(parts))


def falling(value: float, full: float, none: float) -> float:
    """1 up to `full`, 0 from `none` on, a straight line between (full < none)."""
    return min(1.0, max(0.0, (none - value) / (none - full)))


def plateau(value: float, low: float, full_from: float, full_to: float, high: float) -> float:
    """0 up to `low`, 1 between `full_from` and `full_to`, 0 from `high` on, straight lines between."""
    return min(falling(-value, -full_from, -low), falling(value, full_to, high))


def count_part(num_sentences: int, low: int, high: int) -> float:
    """1 from `low` to `high` sentences, 0.5 for one more or less, else 0."""
    missed = max(low - num_sentences, num_sentences - high, 0)
    return {0: 1.0, 1: 0.5}.get(missed, 0.0) if num_sentences else 0.0


def repeated_share(units: Sequence[str], order: int) -> float:
    """Share of n-grams of this order that repeat an earlier one; 0 when there are none."""
    grams = [tuple(units[i : i + order]) for i in range(len(units) - order + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


# ---- English ---------------------------------------------------------------------------------------------------------


def _default_weights_en() -> Mapping[str, float]:
    return {"topic": 0.13, "comparison": 0.34, "address": 0.36, "grade": 0.05, "length": 0.07, "sentences": 0.05}


def _default_gates_en() -> Mapping[str, float]:
    return {"ended": 0.3, "plain": 0.3, "varied": 0.3, "grade": 0.5, "count": 0.4}


@dataclass(frozen=True, kw_only=True)
class EnglishRubric:
    """museum-en. The weights leave headroom: an SFT model writes short easy sentences nearly always, but keeps to the
    topic, compares and speaks to the child only sometimes; those three carry 0.83 of the total.
    """

    needs_keywords: ClassVar[bool] = True
    name: str = "museum-en"
    """Part of the labeller's name."""
    weights: Mapping[str, float] = field(default_factory=_default_weights_en)
    """Share of each part in the total; sums to 1."""
    gates: Mapping[str, float] = field(default_factory=_default_gates_en)
    """Factor on the total when the answer was cut off, holds lists or markdown, repeats itself, is far too hard, or has too
    few or too many sentences."""
    grade_full: float = 4.0
    """Flesch-Kincaid grade up to which the grade part is 1."""
    grade_none: float = 8.0
    """Flesch-Kincaid grade from which the grade part is 0."""
    words_full: tuple[int, int] = (15, 45)
    """Number of words (both ends included) for which the length part is 1."""
    words_none: tuple[int, int] = (5, 80)
    """Number of words at and beyond which the length part is 0."""
    sentences_full: tuple[int, int] = (2, 4)
    """Number of sentences (both ends included) for which the count part is 1; one more or less is worth 0.5."""
    min_sentence_words: int = 3
    """A sentence with fewer words is not a whole one."""
    max_repeated_trigrams: float = 0.12
    """Share of repeated word trigrams above which an answer is repetitive."""
    max_word_share: float = 0.30
    """Share of one content word (four letters or more) above which an answer of 10 words or more is repetitive."""

    def score(self, item: Item) -> Score:
        """Score one answer. Raises DataError when the item has no key words."""
        keywords = keywords_of({"keywords": item.keywords}, f"question {item.prompt!r}")
        text = item.answer.strip()
        found = [word.lower() for word in words(text)]
        low, high = self.words_none
        parts = {
            "topic": topic_share(text, keywords),
            "comparison": 1.0 if has_comparison(text) else 0.0,
            "address": 1.0 if _ADDRESS.search(text) else 0.0,
            "grade": falling(flesch_kincaid_grade(text), self.grade_full, self.grade_none) if found else 0.0,
            "length": plateau(len(found), low, *self.words_full, high),
            "sentences": self._whole_sentences(text),
            "count": count_part(len(sentences(text)), *self.sentences_full),
            "ended": 1.0 if item.ended else 0.0,
            "plain": 0.0 if _MARKUP.search(text) or _FOREIGN.search(text) else 1.0,
            "varied": 1.0 if self._is_varied(text, found) else 0.0,
        }
        return combine(parts, self.weights, self.gates)

    def _whole_sentences(self, text: str) -> float:
        """Share of sentences that begin like one, have enough words and end in . ! or ?"""
        found = sentences(text)
        if not found:
            return 0.0
        whole = sum(
            1
            for sentence in found
            if _SENTENCE_START.match(sentence)
            and _SENTENCE_END.search(sentence)
            and len(words(sentence)) >= self.min_sentence_words
        )
        return whole / len(found)

    def _is_varied(self, text: str, found: Sequence[str]) -> bool:
        said = [" ".join(words(sentence)).lower() for sentence in sentences(text)]
        if len(set(said)) < len(said) or repeated_share(found, 3) > self.max_repeated_trigrams:
            return False
        if any(len(set(found[i : i + 4])) == 1 for i in range(len(found) - 3)):
            return False
        content = Counter(word for word in found if len(word) >= 4)
        return len(found) < 10 or not content or content.most_common(1)[0][1] <= self.max_word_share * len(found)


_SENTENCE_START = re.compile(r"[\"'“‘(]*[A-Z0-9]")
_SENTENCE_END = re.compile(r"[.!?][\"'”’)]*$")
_ADDRESS = re.compile(r"\b(you|your|yours|yourself|yourselves|we|us|our|ours|let[’']s|imagine)\b", re.IGNORECASE)
_MARKUP = re.compile(
    r"^\s*(?:[-*•+>#|]|\d+[.)]\s|[a-z][.)]\s)"  # bullets, headings, quotes, tables, numbered lines
    r"|\*\*|__|`|\]\(|https?:|<[a-z/|]|\\[a-z(]"  # bold, code, links, tags, formulas
    r"|\b1[.)]\s.*\b2[.)]\s"  # a list inside a line
    r"|^\s*(?:user|assistant|system|human|question|answer)\s*:"  # another turn of a dialogue
    r"|:\s*$",  # a line that announces a list
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_FOREIGN = re.compile(r"[^\W\d_a-zA-Z\u00c0-\u024f]|\ufffd")


def topic_share(text: str, keywords: Sequence[str]) -> float:
    """0 for no key word used, 0.5 for one, 1 for two or more distinct ones.

    A key word counts as a whole word in any case, with the endings s es ed d ing er ly (also after a doubled last
    letter or a dropped e, and y -> ies). Inflected forms of one word in the list count once.
    """
    patterns: list[re.Pattern[str]] = []
    for keyword in keywords:
        if not any(pattern.fullmatch(keyword) for pattern in patterns):
            patterns.append(_keyword_pattern(keyword))
    used = sum(1 for pattern in patterns if pattern.search(text))
    return min(1.0, used / 2)


def _keyword_pattern(keyword: str) -> re.Pattern[str]:
    stem = r"[\s-]+".join(re.escape(word) for word in re.split(r"[\s-]+", keyword.lower()))
    forms = [stem + r"(?:s|es|ed|d|ing|er|ers|ly)?"]
    last = keyword[-1].lower()
    if last == "e":
        forms.append(stem[:-1] + r"(?:ing|y)")
    elif last == "y":
        forms.append(stem[:-1] + r"(?:ies|ied|ier|ily)")
    elif last.isascii() and last.isalpha() and last not in "aeiouwx":
        forms.append(stem + last + r"(?:ing|ed|er|ers|y)")
    return re.compile(rf"\b(?:{'|'.join(forms)})\b", re.IGNORECASE)


_DETERMINER = r"(?:an?|the|your|my|our|his|her|their|one|two|three|some|little|tiny|small|big|giant|huge|soft|warm)"
_NO_NOUN = r"(?:it|this|that|they|them|to|in|what|there|he|she|we|i|the (?:other|rest|one)s?)\b"
_COMPARISON = re.compile(
    rf"\b(?:just|much|exactly|almost|bit|kind of|sort of) like (?!{_NO_NOUN})\w"
    rf"|\bas (?!(?:well|soon|possible|known|such)\b)\w+ as (?:{_DETERMINER} \w|\d)"
    r"|\bas (?!(?:well|soon|much|long|far)\b)\w+ as you\b(?! (?:can|want|like|need|go|get|grow)\b)"
    r"|\bthink of (?:it|them|this|that|an?|the|your|how|when) "
    r"|\b(?:imagine|pretend) (?:that )?(?:an?|the|your?|you[’']re|we|it|one|two|some|holding|being|playing)\b"
    r"|\bimagine\b[^.!?]*\b(?:is|are|was|were) (?:like )?an? \w"
    r"|\b(?!(?:oth|rath|lat|aft|nev|ev|und|high|low|great)er\b)\w{2,}er than (?:an?|your|ten|a hundred) \w"
    r"|\bthe size of (?:an?|your) \w"
    r"|\b(?:the same way|as if|as though) (?:you|we|an?|your|it were)\b",
    re.IGNORECASE,
)
_LIKE = re.compile(rf"\blike (?:{_DETERMINER} \w|(?:how|when|if) (?:you|we|an?|your|the)\b)", re.IGNORECASE)
_LIKE_BARE = re.compile(
    r"\b(?:is|are|was|it[’']s|they[’']re|(?:look|feel|sound|smell|taste|work|act|move|shine|glow|float|melt|roll|spin"
    r"|flow|grow|spread|bounce|stretch|curl|snap|hop|swim|stick|fit|burn)s?|fl(?:y|ies)|made|shaped|out|up|down|in|off"
    rf"|away|around|along|together|apart|back|open|through) like (?!{_NO_NOUN})\w"
    rf"|, like (?!{_NO_NOUN})\w+(?!\w|,| and\b| or\b)",  # "hard, like rock", but not "pets, like cats and dogs"
    re.IGNORECASE,
)
_LIKING = re.compile(
    r"(?:\b(?:i|we|they|he|she|who|would|do|does|did|to|not|really|also|will|may|might|can|still|both|all)|[’']d|n[’']t"
    r"|(?:^\W*|\b(?:do|does|did|would|if|when|because|that|what|and|but|or|so|which)\s+)(?:you|people|kids|children))$",
    re.IGNORECASE,
)
_SUBJECT_ONLY = re.compile(
    r"^\W*(?:(?:the|a|most|many|some|all|these|those|baby|other|young|few)\s+)?"
    r"(?!it\b|that\b|this\b)(?!\w+[’']s\b)[a-z]+s?$",
    re.IGNORECASE,
)


def has_comparison(text: str) -> bool:
    """Whether the text compares something to a thing a child knows ("like a ball", "as big as your hand", "think of").

    "I like a walk", "bees like the sun" and "what it looks like" are no comparisons.
    """
    return any(
        _COMPARISON.search(sentence) or _LIKE_BARE.search(sentence) or _likens(sentence) for sentence in sentences(text)
    )


def _likens(sentence: str) -> bool:
    for match in _LIKE.finditer(sentence):
        before = re.split(r"[,;:—–(]", sentence[: match.start()])[-1].rstrip()
        at_start = not sentence[: match.start()].strip(" \"'“‘")
        if at_start or not before:
            return True
        if not _LIKING.search(before) and not _SUBJECT_ONLY.match(before):
            return True
    return False


def rubric_for(language: str) -> Rubric:
    """The museum rubric of a language, "en" or "zh" (also "zh-CN"); ConfigError for any other."""
    if language == "en":
        return EnglishRubric()
    if language in ("zh", "zh-CN"):
        from chatwright.labellers.rubric_zh import ChineseRubric

        return ChineseRubric()
    raise ConfigError(f"language: no museum rubric for {language!r}. Choose en or zh.")


class AnswerLike(Protocol):
    """What a gold judge reads of an answer (`evals.harness.Answer` is one)."""

    @property
    def text(self) -> str:
        """The answer."""

    @property
    def ended(self) -> bool:
        """Whether the model stopped by itself."""


def gold_judge(rubric: Rubric) -> Callable[[Prompt, AnswerLike], Score]:
    """The rubric as the judge that `evals.harness.evaluate` asks for: noise-free, key words from the prompt's row."""

    def judge(prompt: Prompt, answer: AnswerLike) -> Score:
        question = prompt.messages[-1].content
        keywords = keywords_for(rubric, prompt.meta, f"prompt {question!r}")
        return rubric.score(Item(prompt=question, answer=answer.text, keywords=keywords, ended=answer.ended))

    return judge
