"""Passages that belong to a prompt (`context` of a row): what a model reads before the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chatwright.jsonl import Where
from chatwright.records.messages import Conversation

FIELD = "context"


def passages_in(value: Any, where: Where) -> tuple[Any, ...]:
    """The passages of a row: a text, or a list of texts and `{"title", "text"}`; DataError names the one that is neither."""
    passages = passages_of(value) if value is None or isinstance(value, str) else tuple(where.list(value, FIELD))
    for i, passage in enumerate(passages):
        where.text(passage.get("text") if isinstance(passage, dict) else passage, f"{FIELD}[{i}]")
    return passages


def passages_of(value: Any) -> tuple[Any, ...]:
    """The passages in a field that was checked before."""
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    return tuple(value) if isinstance(value, list | tuple) else ()


def passages_text(passages: Sequence[Any]) -> str:
    """Passages as one text: each under its title (unless it starts with it), blank lines between."""
    out = []
    for passage in passages:
        title = passage.get("title") if isinstance(passage, dict) else None
        text = passage["text"] if isinstance(passage, dict) else passage
        out.append(f"{title}\n{text}" if isinstance(title, str) and title and not text.startswith(title) else text)
    return "\n\n".join(text for text in out if text.strip())


def with_passages(messages: Conversation, text: str, place: int = -1) -> Conversation:
    """The conversation with `text` before the own text of the message at `place`; as it is when there is none."""
    if not text:
        return messages
    at = place % len(messages)
    question = replace(messages[at], content=f"{text}\n\n{messages[at].content}")
    return (*messages[:at], question, *messages[at + 1 :])
