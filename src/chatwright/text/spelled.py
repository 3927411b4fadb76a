"""Whether a text matches a regular expression of `text.scripts`, by the engine that also restricts what models write: so
data and answers are judged by one set of Unicode tables. No torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from chatwright.text.scripts import phrase_regex


class Matches:
    """A regular expression (Rust syntax) as a predicate of whole texts."""

    def __init__(self, regex: str) -> None:
        import llguidance

        grammar = llguidance.LLMatcher.grammar_from_regex(regex)
        self._start: Any = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0)
        if self._start.is_error():
            raise ValueError(self._start.get_error())

    def __call__(self, text: str) -> bool:
        """Whether all of `text` matches; half a surrogate pair never does."""
        try:
            tokens = list(text.encode())
        except UnicodeEncodeError:
            return False
        matcher = self._start.deep_copy()
        if matcher.validate_tokens(tokens) < len(tokens):
            return False
        return bool(not tokens or matcher.consume_tokens(tokens)) and bool(matcher.is_accepting())


@lru_cache(maxsize=32)
def is_phrase(script: str) -> Matches:
    """A predicate: is this one phrase of the script, or, for `emoji`, one emoji? See `phrase_regex`."""
    return Matches(phrase_regex(script))


def with_presentation(emoji: str) -> str | None:
    """An emoji fully qualified as UTS #51 wants it: with U+FE0F where a part would else be a letter or a sign. None for what
    is no emoji."""
    fits = is_phrase("emoji")
    parts = []
    for part in emoji.replace("\ufe0f", "").split("\u200d"):
        spellings = (part, f"{part}\ufe0f", f"{part[:1]}\ufe0f{part[1:]}")
        found = next((spelling for spelling in spellings if fits(spelling)), None)
        if found is None:
            return None
        parts.append(found)
    whole = "\u200d".join(parts)
    return whole if fits(whole) else None
