"""What is asked of one document, in order. A `Cleaner` is a plain callable: `cleaner(text)` gives a `Clean` or a `Dropped`;
it knows nothing of files or processes, so the same object runs in our workers, in Ray Data and in datatrove (`adapters.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chatwright.data.corpus_build.config import BuildConfig
from chatwright.data.corpus_build.decontaminate import Contamination
from chatwright.data.corpus_build.normalise import normalise
from chatwright.data.corpus_build.profanity import checker
from chatwright.data.corpus_build.quality import quality_reason
from chatwright.text.languages import Tags, tags
from chatwright.text.letters import Words, is_unicode, words
from chatwright.text.pii import scrub


@dataclass(frozen=True, kw_only=True)
class Clean:
    """A document that is kept."""

    text: str
    tags: Tags
    """Its script and language."""
    words: Words | None
    """Its words, where they were needed."""
    scrubbed: Mapping[str, int] = field(default_factory=dict)
    """Pieces of personal data that were replaced, by kind."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A document that is not kept."""

    reason: str
    """One of a fixed set of phrases, so that drops can be counted."""


class Cleaner:
    """All filters of one document, as the settings say."""

    def __init__(self, cfg: BuildConfig, contamination: Contamination | None = None) -> None:
        """`contamination`: what `decontaminate.contamination` found in the evaluation files."""
        self._cfg = cfg
        self._contamination = contamination
        self._profane = checker(cfg.profanity_words) if cfg.profanity and not cfg.raw else None
        self._languages = frozenset(cfg.languages)

    def __call__(self, text: str) -> Clean | Dropped:
        """Clean or drop one document."""
        cfg = self._cfg
        if not is_unicode(text):
            return Dropped(reason="half a surrogate pair")
        if cfg.raw:
            return Clean(text=text, tags=tags(text), words=None) if text else Dropped(reason="empty")
        text = normalise(text, cfg.normalise)
        if not text.strip():
            return Dropped(reason="empty")
        tagged = tags(text)
        if self._languages and tagged.language not in self._languages:
            return Dropped(reason="other language")
        counted = words(text)
        if cfg.quality.enabled and (reason := quality_reason(text, cfg.quality, counted)):
            return Dropped(reason=reason)
        if self._profane is not None and self._profane(text):
            return Dropped(reason="profanity")
        # Before personal data is replaced: evaluation sets hold names and numbers as they are.
        if self._contamination is not None and self._contamination.touches(counted):
            return Dropped(reason="contaminated")
        return self._scrubbed(text, tagged, counted)

    def _scrubbed(self, text: str, tagged: Tags, counted: Words) -> Clean:
        if not self._cfg.pii or not _may_be_personal(text, counted):
            return Clean(text=text, tags=tagged, words=counted)
        found = scrub(text, leave=("NAME",))  # in books those who say their names are mostly made up
        # Copies that differ in an address only are still near-duplicates: the words before scrubbing serve well.
        return Clean(text=found.text, tags=tagged, words=counted, scrubbed=found.found)


_HINT = re.compile(r"[\d@＠]")
_RARE_HINT = re.compile(r"[\[(]\s?at\s?[\])]|[?&]\w+=|::|PRIVATE KEY", re.IGNORECASE)


def _may_be_personal(text: str, counted: Words) -> bool:
    """Whether a pattern of `text.pii` can match: each needs a digit, an @, one of some rare spellings, or 16 letters and
    digits in a row. Scrubbing takes time, and most documents of a corpus have none of these."""
    if _HINT.search(text) or _RARE_HINT.search(text):
        return True
    return bool(len(counted.lengths)) and int(counted.lengths.max()) >= 16
