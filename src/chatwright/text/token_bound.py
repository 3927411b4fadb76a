"""A lower bound of the number of tokens of a text, in a millisecond: refuses texts far beyond a context without
tokenizing them.

Every token covers at most so many letters and at most so many other characters as the vocabulary's longest entries.
"""

from __future__ import annotations

import json
from typing import Any

from chatwright.errors import ModelError
from chatwright.text.pieces import token_bytes
from chatwright.text.tokenizer import Tokenizer

_LETTERS = bytes(byte for byte in range(256) if byte >= 0x80 or chr(byte).isalnum())
_OTHERS = bytes(byte for byte in range(256) if byte not in _LETTERS)
# Parts that keep every character of a text (those of the first group join at most two into one).
_KEEPING = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Sequence", "ByteLevel", "Metaspace", "Digits"}


class TokenBound:
    """Bounds for one tokenizer; the bound is 0 where a part of the tokenizer may drop characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._longest = _longest(tokenizer)

    def least(self, text: str) -> int:
        """The text has at least so many tokens."""
        if self._longest is None:
            return 0
        letters, others = self._longest
        raw = text.encode("utf-8", "replace")
        num_others = len(raw.translate(None, _LETTERS))
        # Composition (NFC) may join characters, and bytes of characters beyond ASCII vary: characters, and half of them.
        num_letters = (len(text) - num_others) // 2
        return max(num_letters // letters, num_others // 2 // others)


def _longest(tokenizer: Tokenizer) -> tuple[int, int] | None:
    """(bytes of letters, of others) of the vocabulary's longest entries; None where no bound holds."""
    described = json.loads(tokenizer.json)
    parts = [*_parts(described.get("normalizer")), *_parts(described.get("pre_tokenizer"))]
    if not all(_keeps(part) for part in parts) or any(
        token.get("lstrip") or token.get("rstrip") for token in described.get("added_tokens", []) if not token["special"]
    ):
        return None
    try:
        pieces = token_bytes(tokenizer)
    except ModelError:
        return None
    if len({piece for piece in pieces if len(piece) == 1}) < 128:  # else an unknown token may stand for any text
        return None
    letters = max(len(piece.translate(None, _OTHERS)) for piece in pieces)
    others = max(len(piece.translate(None, _LETTERS)) for piece in pieces)
    return (letters, others) if letters and others else None


def _parts(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    inner = part.get("normalizers") or part.get("pretokenizers") or []
    return [part, *(one for nested in inner for one in _parts(nested))]


def _keeps(part: dict[str, Any]) -> bool:
    if part["type"] == "Split":
        return bool(part.get("behavior") != "Removed")
    if part["type"] == "Replace":
        return part.get("pattern") == {"String": " "} and bool(part.get("content"))
    return part["type"] in _KEEPING
