"""Lists of words and forms per language that the judge and the overlap rule use: declining, referring, negating, ..."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from chatwright.errors import ConfigError, DataError
from chatwright.house.forms import Form, NegatorList

LANGUAGES = ("en", "zh")
FORM_LISTS = ("decline", "refer", "courtesy", "reason", "warm", "negators", "not_negators", "stop_words", "contrast")


@dataclass(frozen=True)
class Language:
    """The lists of one language, parsed."""

    name: str
    """en or zh."""
    decline: tuple[Form, ...]
    """Forms by which an answer declines."""
    refer: tuple[Form, ...]
    """Forms that send the visitor to a person who knows."""
    courtesy: tuple[Form, ...]
    """Forms of politeness that claim nothing."""
    reason: tuple[Form, ...]
    """Forms that say why an unsafe request is declined."""
    warm: tuple[Form, ...]
    """Words of a warm voice."""
    contrast: tuple[Form, ...]
    """Words that begin a new clause: but, however."""
    stop_words: frozenset[str]
    """Words that carry no content, folded as the lexer folds them."""
    negators: NegatorList
    """Words that take back what follows."""

    @classmethod
    def from_lists(cls, name: str, lists: Mapping[str, Sequence[str]]) -> Language:
        """Parse the lists. DataError names a list that is missing or a form that cannot be read."""
        missing = [key for key in FORM_LISTS if key not in lists]
        if missing:
            raise DataError(f"forms of {name!r}: the list {missing[0]!r} is missing; needed: {', '.join(FORM_LISTS)}")
        negators = NegatorList(lists["negators"], lists["not_negators"])

        def forms(key: str) -> tuple[Form, ...]:
            return tuple(Form.parse("~" + text.lstrip("~")) for text in lists[key])

        return cls(
            name=name,
            decline=forms("decline"),
            refer=forms("refer"),
            courtesy=forms("courtesy"),
            reason=forms("reason"),
            warm=forms("warm"),
            contrast=forms("contrast"),
            stop_words=frozenset(lists["stop_words"]),
            negators=negators,
        )


@cache
def load_language(name: str) -> Language:
    """The bundled lists of a language. ConfigError for a language without lists."""
    path = resources.files("chatwright") / "bundled" / "house" / name / "forms.json"
    if name not in LANGUAGES or not path.is_file():
        raise ConfigError(f"language: {name!r} has no lists of forms; choose one of {', '.join(LANGUAGES)}")
    return Language.from_lists(name, json.loads(path.read_text(encoding="utf-8")))
