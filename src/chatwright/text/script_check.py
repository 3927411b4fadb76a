"""Checks whether a text kept to a script (`scripts.script_regex`) stays in it when given bytes are appended: for tokens that
a person chooses. Constrained generation has its own automaton, which starts anew after such a token."""

from __future__ import annotations

import re
from functools import lru_cache

import regex  # type: ignore[import-untyped]

from chatwright.text.scripts import beginning_regex

_TAIL = 16
"""Code points before the new ones that are looked at: no emoji of Unicode's own list is longer."""


class ScriptCheck:
    """The characters that an answer kept to `names` may hold. Raises ConfigError for an unknown script."""

    def __init__(self, names: str) -> None:
        rust = beginning_regex(names)
        pattern = re.sub(r"\\u\{([0-9A-Fa-f]+)\}", lambda match: rf"\U{int(match[1], 16):08X}", rust)
        self._fits = regex.compile(pattern, regex.VERSION1).fullmatch

    def allows(self, before: bytes, piece: bytes) -> bool:
        """True when `before` (UTF-8) and `piece` together end with a whole character of the script."""
        tail = _last_characters(before + piece)
        try:
            text = tail.decode()
        except UnicodeDecodeError:
            return False
        old = text[: max(0, len(text) - len(piece.decode("utf-8", "ignore")))]
        cut = len(tail) < len(before) + len(piece)  # then its first characters may be the rest of an emoji
        return any(
            self._fits(text[start:]) and (start == 0 or (cut and start <= _TAIL // 2) or self._ends_whole(old[:start]))
            for start in range(len(old) + 1)
        )

    def _ends_whole(self, text: str) -> bool:
        return any(self._fits(text[start:]) for start in range(len(text)))


@lru_cache(maxsize=64)
def script_check(names: str) -> ScriptCheck:
    """The check of scripts joined by `|`, made once."""
    return ScriptCheck(names)


def _last_characters(data: bytes) -> bytes:
    tail = data[-8 * _TAIL :]
    starts = [at for at, byte in enumerate(tail) if byte & 0xC0 != 0x80]
    cut = starts[-_TAIL] if len(starts) > _TAIL else 0 if len(tail) == len(data) else (starts or [0])[0]
    return tail[cut:]
