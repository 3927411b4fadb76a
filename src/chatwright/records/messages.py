"""Messages and conversations, and how they stand in a row of JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chatwright.jsonl import Where

# Keys that change what a message means; dropping them silently would train on something else.
_REFUSED_MESSAGE_KEYS = ("tool_calls", "function_call", "weight")
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_dict(self) -> dict[str, str]:
        """`{"role": ..., "content": ...}`."""
        return {"role": self.role, "content": self.content}


Conversation = tuple[Message, ...]


def conversation(*turns: tuple[Role, str]) -> Conversation:
    """A conversation from (role, content) tuples."""
    return tuple(Message(role=role, content=content) for role, content in turns)


def user(text: str) -> Conversation:
    """A conversation of one user message."""
    return conversation(("user", text))


def conversation_id(messages: Conversation) -> str:
    """Stable id of a conversation: 16 hex digits of the sha256 of its roles and contents."""
    text = json.dumps([[m.role, m.content] for m in messages], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rest_of(row: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """The fields of a row that are not in `used`."""
    return {name: value for name, value in row.items() if name not in used}


def messages_out(messages: Conversation) -> list[dict[str, str]]:
    """Messages as they stand in a row."""
    return [message.to_dict() for message in messages]


def messages_in(value: Any, name: str, where: Where) -> Conversation:
    """Messages of the field `name`, at least one."""
    messages = []
    for i, item in enumerate(where.list(value, name)):
        place = f"{name}[{i}]"
        if not isinstance(item, dict):
            raise where.error(place, 'must be {"role": ..., "content": ...}')
        if item.get("role") not in get_args(Role):
            raise where.error(f"{place}.role", f"is {item.get('role')!r}; use one of {', '.join(get_args(Role))}")
        for key in _REFUSED_MESSAGE_KEYS:
            if item.get(key) is not None:
                raise where.error(f"{place}.{key}", "is not supported; `chatwright data import` converts other formats")
        messages.append(Message(role=item["role"], content=where.text(item.get("content"), f"{place}.content")))
    if not messages:
        raise where.error(name, "is empty")
    return tuple(messages)


def prompt_in(row: Mapping[str, Any], where: Where) -> tuple[Conversation, set[str]]:
    """The prompt of a row and the names of the fields it came from."""
    if "messages" in row:
        messages, used = messages_in(row["messages"], "messages", where), {"messages"}
    elif "prompt" in row:
        messages, used = user(where.text(row["prompt"], "prompt")), {"prompt", "system"}
        if (system := where.optional_text(row, "system")) is not None:
            messages = (Message(role="system", content=system), *messages)
    else:
        fields = ", ".join(sorted(map(str, row))) or "nothing"
        raise where.error("messages", f'is missing; a row has "messages": [...] or "prompt": "..." (found: {fields})')
    name = "prompt" if "prompt" in used else "messages"
    if messages[-1].role not in ("user", "tool"):
        raise where.error(name, f"ends with a {messages[-1].role} message; a prompt ends with the user's")
    if not messages[-1].content.strip():
        raise where.error(name, "the last message is empty")
    return messages, used
