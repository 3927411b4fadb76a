"""Tokens and their log-probabilities as the API shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chatwright.serve.engine import Engine, TokenLogprob

NEVER = -9999.0
"""Stands for minus infinity, which JSON cannot hold."""


def number(logprob: float) -> float:
    """A log-probability that JSON can hold."""
    return logprob if math.isfinite(logprob) else NEVER


def token_text(engine: Engine, token_id: int) -> str:
    """A token's text; `bytes:\\xe4` when it is a part of a character."""
    raw = engine.token_bytes(token_id)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def chat_logprobs(engine: Engine, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`ChatLogprobs` of an answer, or of a piece of one."""

    def shown(token_id: int, logprob: float) -> dict[str, Any]:
        raw = list(engine.token_bytes(token_id))
        return {"token": token_text(engine, token_id), "logprob": number(logprob), "bytes": raw}

    content = [shown(t.id, t.logprob) | {"top_logprobs": [shown(*one) for one in t.top]} for t in tokens]
    return {"content": content, "refusal": None}


class CompletionTokens:
    """Collects `CompletionLogprobs` of one completion, whole or piece by piece."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bytes_before = b""
        self._offset = 0

    def take(self, ids: Sequence[int], tokens: Sequence[TokenLogprob | None]) -> dict[str, Any]:
        """The next tokens; None stands for a prompt's first one, which nothing predicts."""
        names, values, tops, offsets = [], [], [], []
        for token_id, token in zip(ids, tokens, strict=True):
            name = token_text(self._engine, token_id)
            names.append(name)
            offsets.append(self._offset)
            self._advance(token_id)
            values.append(None if token is None else number(token.logprob))
            tops.append(None if token is None else self._tops(name, token))
        return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}

    def _tops(self, name: str, token: TokenLogprob) -> dict[str, float]:
        """The realised token's value always stands under its name, bit for bit. Another token with the same text is named by
        its id."""
        shown = {name: number(token.logprob)}
        for token_id, logprob in token.top:
            if token_id != token.id:
                text = token_text(self._engine, token_id)
                shown[f"token_id:{token_id}" if text in shown else text] = number(logprob)
        return shown

    def _advance(self, token_id: int) -> None:
        """Count the characters that are whole now."""
        self._bytes_before += self._engine.token_bytes(token_id)
        text = self._bytes_before.decode("utf-8", "ignore")
        self._offset += len(text)
        # Of a character, at most three bytes can be waiting.
        waiting = self._bytes_before[len(text.encode()) :]
        self._bytes_before = waiting if len(waiting) < 4 else b""
