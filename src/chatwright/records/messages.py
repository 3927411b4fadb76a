"""Messages and conversations, and how they stand in a row of JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chatwright.jsonl import Where
from chatwright.records.marks import training_marks

# Keys that change what a message means; dropping them silently would train on something else.
_TEXT_KEYS = ("reasoning_content", "name", "tool_call_id")
_ONLY_IN = {"reasoning_content": "assistant", "tool_calls": "assistant", "name": "tool", "tool_call_id": "tool"}
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A function that an assistant calls."""

    name: str
    arguments: str
    """A JSON object, as text."""
    id: str = ""
    """Connects the call with the tool message that answers it; "" for none."""

    def to_dict(self) -> dict[str, Any]:
        """As OpenAI writes it, with the arguments as an object: `{"type": "function", "function": {...}, "id"?}`."""
        function = {"name": self.name, "arguments": json.loads(self.arguments)}
        return ({"id": self.id} if self.id else {}) | {"type": "function", "function": function}

    @classmethod
    def from_dict(cls, item: Any, name: str, where: Where) -> ToolCall:
        """From `{"function": {"name", "arguments"}}` or `{"name", "arguments"}`; arguments are an object or its JSON."""
        call = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(call, dict):
            raise where.error(name, 'must be {"function": {"name": ..., "arguments": {...}}}')
        arguments = call.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                raise where.error(f"{name}.arguments", "is not JSON") from None
        if not isinstance(arguments, dict):
            raise where.error(f"{name}.arguments", "must be an object")
        text = json.dumps(arguments, ensure_ascii=False)
        call_id = item.get("id")
        return cls(
            name=where.text(call.get("name"), f"{name}.name"),
            arguments=text,
            id="" if call_id is None else where.text(call_id, f"{name}.id"),
        )


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    reasoning_content: str = ""
    """The thought before an assistant's answer, without its tags; "" for none."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Functions that an assistant's message calls, after its content."""
    name: str = ""
    """The function whose result a tool message holds."""
    tool_call_id: str = ""
    """The call that a tool message answers."""

    def to_dict(self) -> dict[str, Any]:
        """`{"role": ..., "content": ...}`, and the other fields where they hold something."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        row |= {key: value for key in _TEXT_KEYS if (value := getattr(self, key))}
        return row | ({"tool_calls": [call.to_dict() for call in self.tool_calls]} if self.tool_calls else {})


Conversation = tuple[Message, ...]


def conversation(*turns: tuple[Role, str]) -> Conversation:
    """A conversation from (role, content) tuples."""
    return tuple(Message(role=role, content=content) for role, content in turns)


def user(text: str) -> Conversation:
    """A conversation of one user message."""
    return conversation(("user", text))


def conversation_id(messages: Conversation) -> str:
    """Stable id of a conversation: 16 hex digits of the sha256 of its roles, contents, thoughts and tool calls."""
    rows = [(m, m.to_dict()) for m in messages]
    keys = [[m.role, m.content, *([row] if len(row) > 2 else [])] for m, row in rows]
    text = json.dumps(keys, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rest_of(row: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """The fields of a row that are not in `used`."""
    return {name: value for name, value in row.items() if name not in used}


def messages_out(messages: Conversation) -> list[dict[str, Any]]:
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
        for key in ("function_call", *(name for name, _ in training_marks(item))):
            if item.get(key) is not None:
                raise where.error(f"{place}.{key}", "is not supported; `chatwright data import` converts other formats")
        messages.append(_message_in(item, place, where))
    if not messages:
        raise where.error(name, "is empty")
    return tuple(messages)


def _message_in(item: Mapping[str, Any], place: str, where: Where) -> Message:
    role = item["role"]
    for key, owner in _ONLY_IN.items():
        if item.get(key) and role != owner and key != "name":
            raise where.error(f"{place}.{key}", f"belongs to a message of the {owner}, not of the {role}")
    calls = item.get("tool_calls") or []
    calls_in = tuple(
        ToolCall.from_dict(call, f"{place}.tool_calls[{i}]", where)
        for i, call in enumerate(where.list(calls, f"{place}.tool_calls"))
    )
    content = item.get("content")
    texts = {key: where.optional_text(item, key) or "" for key in _TEXT_KEYS if _ONLY_IN[key] == role}
    return Message(
        role=role,
        content="" if content is None and calls_in else where.text(content, f"{place}.content"),
        tool_calls=calls_in,
        **texts,
    )


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
