"""An answer's tokens as they are kept for the token view: pieces of text, log-probabilities, alternatives."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Sequence

from chatwright.serve.chat.wire import Alternative, Token
from chatwright.serve.engine import TokenLogprob

MAX_STORED = 50_000_000  # bytes of JSON of one answer: a bound for what is unpacked


def pack(tokens: Sequence[TokenLogprob], token_bytes: Callable[[int], bytes]) -> bytes:
    """Compressed JSON: per token [id, text, logprob, [[id, text, logprob], ...]]. Texts are kept, as the model that knows
    them may be gone when they are shown."""

    def piece(token_id: int) -> str:
        return token_bytes(token_id).decode("utf-8", "replace")

    rows = [
        [t.id, piece(t.id), t.logprob, [[i, piece(i), logprob] for i, logprob in t.top]] for t in tokens
    ]  # fmt: skip
    return zlib.compress(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode())


def unpack(data: bytes) -> list[Token]:
    """What `pack` kept."""
    rows = json.loads(zlib.decompressobj().decompress(data, MAX_STORED))
    return [
        Token(
            id=i, text=text, logprob=logprob, top=[Alternative(id=j, text=other, logprob=p) for j, other, p in top]
        )
        for i, text, logprob, top in rows
    ]  # fmt: skip


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
