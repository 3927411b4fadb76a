"""Prompts and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chatwright.jsonl import IN_MEMORY, Where
from chatwright.records.messages import (
    Conversation,
    Message,
    conversation_id,
    messages_in,
    messages_out,
    prompt_in,
    rest_of,
)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is asked: a conversation that ends with a user (or tool) message."""

    messages: Conversation
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row: topic, keywords, user, ..."""

    @property
    def id(self) -> str:
        """Stable id of the messages; `meta` does not change it."""
        return conversation_id(self.messages)

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines."""
        return {"messages": messages_out(self.messages), **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Prompt:
        """From `{"messages": [...]}` or `{"prompt": "..."}`; DataError names the field."""
        messages, used = prompt_in(row, where)
        return cls(messages=messages, meta=rest_of(row, used))


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A conversation to imitate; its last message is the assistant's."""

    messages: Conversation
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Every other field of the row."""

    @property
    def prompt(self) -> Prompt:
        """The conversation before the last answer, with the same meta."""
        return Prompt(messages=self.messages[:-1], meta=self.meta)

    @property
    def answer(self) -> str:
        """The last assistant message."""
        return self.messages[-1].content

    def to_dict(self) -> dict[str, Any]:
        """The row as written to JSON lines."""
        return {"messages": messages_out(self.messages), **self.meta}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: Where = IN_MEMORY) -> Demonstration:
        """From `{"messages": [..., assistant]}` or `{"prompt": "...", "completion": "..."}`."""
        if "messages" in row:
            messages, used = messages_in(row["messages"], "messages", where), {"messages"}
            if messages[-1].role != "assistant":
                raise where.error(
                    "messages",
                    f"ends with a {messages[-1].role} message; a demonstration ends with the assistant's answer",
                )
            if len(messages) < 2 or messages[-2].role not in ("user", "tool"):
                raise where.error("messages", "has no user message right before the last answer")
        else:
            before, used = prompt_in(row, where)
            if "completion" not in row:
                raise where.error(
                    "completion",
                    'is missing; a demonstration is {"messages": [...]} or {"prompt": ..., "completion": ...}',
                )
            answer = Message(role="assistant", content=where.text(row["completion"], "completion"))
            messages, used = (*before, answer), used | {"completion"}
        if not messages[-1].content.strip() and not messages[-1].tool_calls:
            raise where.error("completion" if "completion" in used else "messages", "the answer is empty")
        return cls(messages=messages, meta=rest_of(row, used))
