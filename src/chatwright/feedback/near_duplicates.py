"""When two prompts count as one: the same conversation, or messages that begin with the same long stretch.

InstructGPT (section 3.2) removes prompts that share a long common prefix: those of a program that puts short inputs into one
long template. It does not say how long; here it is `PREFIX_CHARS` characters, Han and Kana counting three times (they say
that much more).
"""

from __future__ import annotations

import hashlib
import hmac
import json

from chatwright.records import Conversation
from chatwright.records.sameness import normalised

PREFIX_CHARS = 120
_DENSE = 3


def long_prefix(text: str) -> str:
    """The first `PREFIX_CHARS` characters of a normalised text; "" when it is shorter, and only equal to itself."""
    weight = 0
    for place, character in enumerate(text):
        weight += _DENSE if "\u3040" <= character <= "\u9fff" else 1
        if weight >= PREFIX_CHARS:
            return text[: place + 1]
    return ""


def digests(messages: Conversation, secret: bytes) -> tuple[str, str]:
    """(of the whole conversation, of the long prefix of its last message or "") under a key: without it nobody can try out
    which prompts were seen."""
    turns = [[message.role, normalised(message.content)] for message in messages]
    prefix = long_prefix(normalised(messages[-1].content))
    # A reply in a conversation that goes on is a new prompt, however long its history.
    return keyed(secret, "conversation", json.dumps(turns)), keyed(secret, "prefix", prefix) if prefix else ""


def keyed(secret: bytes, purpose: str, text: str) -> str:
    """HMAC-SHA256 of a text, 32 hex digits; other purposes give other digests."""
    return hmac.new(secret, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]
