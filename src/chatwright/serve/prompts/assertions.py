"""What an answer can be asked to be; each assertion is true or false of a text."""

from __future__ import annotations

import fnmatch
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, fields

from chatwright.errors import ConfigError
from chatwright.text.readability import han_characters, words


@dataclass(frozen=True, kw_only=True)
class Assertions:
    """Each one given counts once in the score of an answer; letter case never matters."""

    contains: tuple[str, ...] = ()
    """Texts that must all occur."""
    contains_any: tuple[str, ...] = ()
    """Texts of which one must occur."""
    not_contains: tuple[str, ...] = ()
    """Texts that must not occur."""
    matches: str = ""
    """A pattern for the whole answer: `*` stands for anything, `?` for one character."""
    min_words: int = 0
    """Words at least; a Han character is a word."""
    max_words: int = 0
    """Words at most; 0: any number."""
    script: str = ""
    """Script of nine letters in ten: Latin, Han, Cyrillic, ..."""
    starts: tuple[str, ...] = ()
    """One of these must begin the answer."""
    ends: tuple[str, ...] = ()
    """One of these must end the answer."""
    json: bool = False
    """The answer must be JSON and nothing else."""
    finished: bool = False
    """The model must have stopped by itself."""

    def __post_init__(self) -> None:
        if self.max_words and self.max_words < self.min_words:
            raise ConfigError(f"max_words {self.max_words}: is below min_words {self.min_words}, so no answer can pass")
        if self.script and not any(unicodedata.name(chr(c), "").startswith(_prefix(self.script)) for c in range(64, 0x9000)):
            raise ConfigError(f"script {self.script!r}: no letters have this name; Latin, Han, Cyrillic, Greek, ...")

    def check(self, text: str, *, finished: bool) -> dict[str, bool]:
        """Verdict per assertion that was given."""
        plain, given = text.strip(), [field.name for field in fields(self) if getattr(self, field.name)]
        low = plain.casefold()
        tests: dict[str, Callable[[], bool]] = {
            "contains": lambda: all(part.casefold() in low for part in self.contains),
            "contains_any": lambda: any(part.casefold() in low for part in self.contains_any),
            "not_contains": lambda: not any(part.casefold() in low for part in self.not_contains),
            "matches": lambda: fnmatch.fnmatchcase(low, re.sub(r"\[", "[[]", self.matches.casefold())),
            "min_words": lambda: num_words(plain) >= self.min_words,
            "max_words": lambda: num_words(plain) <= self.max_words,
            "script": lambda: _in_script(plain, self.script),
            "starts": lambda: low.startswith(tuple(part.casefold() for part in self.starts)),
            "ends": lambda: low.endswith(tuple(part.casefold() for part in self.ends)),
            "json": lambda: _is_json(plain),
            "finished": lambda: finished,
        }
        return {name: tests[name]() for name in given}


def num_words(text: str) -> int:
    """Words of a text; each Han character counts as one."""
    han = han_characters(text)
    return len(han) + len(words("".join(" " if c in set(han) else c for c in text)))


def _prefix(script: str) -> str:
    return "CJK UNIFIED" if script.casefold() == "han" else f"{script.upper()} "


def _in_script(text: str, script: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    inside = sum(unicodedata.name(c, "").startswith(_prefix(script)) for c in letters)
    return bool(letters) and inside >= 0.9 * len(letters)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
