"""An answer's tokens as they are kept for the token view: pieces of text, log-probabilities, alternatives."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from chatwright.serve.chat.wire import Alternative, Token
from chatwright.serve.engine import TokenLogprob
from chatwright.text.script_check import script_check

MAX_STORED = 50_000_000  # bytes of JSON of one answer: a bound for what is unpacked


def pack(tokens: Sequence[TokenLogprob], token_bytes: Callable[[int], bytes]) -> bytes:
    """Compressed JSON: per token [id, text, logprob, [[id, text, logprob], ...]], and after them the bytes in hexadecimal
    where a token is a part of a character. Texts are kept, as the model that knows them may be gone when they are shown."""

    def row(token_id: int, *rest: Any) -> list[Any]:
        data = token_bytes(token_id)
        try:
            return [token_id, data.decode(), *rest]
        except UnicodeDecodeError:
            return [token_id, data.decode("utf-8", "replace"), *rest, data.hex()]

    rows = [row(t.id, t.logprob, [row(i, logprob) for i, logprob in t.top]) for t in tokens]
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())


def unpack(data: bytes) -> list[Token]:
    """The tokens that `pack` kept. Rows of earlier versions have no bytes."""
    rows = json.loads(zlib.decompressobj().decompress(data, MAX_STORED))
    return [
        Token(id=i, text=text, logprob=logprob, top=[_alternative(*one) for one in top], hex="".join(broken))
        for i, text, logprob, top, *broken in rows
    ]  # fmt: skip


def _alternative(token_id: int, text: str, logprob: float, broken: str = "") -> Alternative:
    return Alternative(id=token_id, text=text, logprob=logprob, hex=broken)


def bytes_of(token: Alternative) -> bytes:
    """Bytes that a token adds to a text."""
    return bytes.fromhex(token.hex) if token.hex else token.text.encode()


def mark_script(tokens: Sequence[Token], script: str) -> None:
    """Mark the alternatives that would break the promise that an answer is kept to a script."""
    check = script_check(script)
    before = b""
    for token in tokens:
        for one in token.top:
            one.outside_script = not check.allows(before, bytes_of(one))
        before += bytes_of(token)


class Continuation:
    """Text of tokens that go on after given ones, which may have ended within a character."""

    def __init__(self, prefix: Sequence[int], token_bytes: Callable[[int], bytes]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._bytes = token_bytes
        self.text = self._decoder.decode(b"".join(token_bytes(i) for i in prefix))
        """The whole characters of the given tokens."""

    def take(self, ids: Sequence[int], text: str) -> str:
        """The text that `ids` add; `text` is what the engine, which saw only them, made of them."""
        if not self._decoder.getstate()[0]:
            return text
        return self._decoder.decode(b"".join(self._bytes(i) for i in ids))
