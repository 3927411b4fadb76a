"""Tool calls between the API's JSON and a model that only writes text.

A call stands in the text as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, the form that Qwen, Hermes and
SmolLM learned. A grammar makes what a local model writes valid; what an earlier answer called is written the same way.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatwright.generation.api import Constraint
from chatwright.generation.calculator_steps import Step, calculator_steps, steps_constraint
from chatwright.records import Message
from chatwright.serve.openai.wire import ChatMessage, ChatRequest, NamedTool

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_STRING_OR_CLOSE = re.compile(rf'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|{CLOSE}', re.DOTALL)
_GRAMMAR = r"""start: %s
text: /([^<](.|\n)*)?/
%scalls: %s
call: "<tool_call>" body "</tool_call>"
body: %%json %s
"""
_INTRODUCTION = """You may call functions to answer the user. These functions exist, as JSON schemas within <tools></tools>:
<tools>
{tools}
</tools>
To call one, write its name and arguments as JSON within <tool_call></tool_call>:
<tool_call>{{"name": "function-name", "arguments": {{"argument-name": "value"}}}}</tool_call>"""


@dataclass(frozen=True)
class ToolCall:
    """A call found in an answer."""

    id: str
    name: str
    arguments: str
    """JSON text."""


def wants_tools(body: ChatRequest) -> bool:
    """Whether the answer may call a function of the client's."""
    return bool(body.functions) and body.tool_choice != "none"


def messages_of(body: ChatRequest, *, native: bool = False) -> tuple[Message, ...]:
    """The conversation as the model reads it, tools introduced in its system message. `native`: the engine is told of
    the tools in its own way."""
    messages = [Message(role=_role(m), content=m.text + _calls_text(m)) for m in body.messages]
    if wants_tools(body) and not native:
        functions = [tool.function.model_dump(exclude_none=True) for tool in body.functions]
        tools = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
        text = _INTRODUCTION.format(tools=tools)
        if messages[0].role == "system":
            messages[0] = Message(role="system", content=f"{messages[0].content}\n\n{text}")
        else:
            messages.insert(0, Message(role="system", content=text))
    return tuple(messages)


def wire_messages(body: ChatRequest) -> list[dict[str, Any]]:
    """The messages for a server elsewhere: exactly the texts that `messages_of` has, so that what is judged is what is
    sent. Fields that we do not know are left out."""
    rows = []
    for message in body.messages:
        row = message.model_dump(exclude_none=True, exclude={"content"})
        rows.append(row if message.content is None else {**row, "content": message.text})
    return rows


def steps_of(body: ChatRequest) -> tuple[Step, ...]:
    """What the server's calculator found to do."""
    return calculator_steps([Message(role=_role(m), content=m.text) for m in body.messages[-1:]]) if body.calculator else ()


def without_calculator(raw: Mapping[str, Any], told: str) -> dict[str, Any]:
    """A client's body for a server elsewhere, which has no calculator of ours: the last message says what it found."""
    tools = [tool for tool in raw.get("tools") or () if tool.get("type") != "calculator"]
    dropped = () if tools else ("tools", "tool_choice", "parallel_tool_calls")
    body = {name: value for name, value in raw.items() if name not in dropped} | ({"tools": tools} if tools else {})
    return body | {"messages": [*raw["messages"][:-1], {**raw["messages"][-1], "content": told}]}


def _role(message: ChatMessage) -> Any:
    return "system" if message.role == "developer" else message.role


def _calls_text(message: ChatMessage) -> str:
    return "".join(f"\n{OPEN}{_call_json(c.function.name, c.function.arguments)}{CLOSE}" for c in message.tool_calls or ())


def _call_json(name: str, arguments: str) -> str:
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = arguments
    text = json.dumps({"name": name, "arguments": parsed}, ensure_ascii=False)
    return text.replace(OPEN, "\\u003c" + OPEN[1:]).replace(CLOSE, "\\u003c" + CLOSE[1:])


def constraint_for_tools(body: ChatRequest, json_schema: str = "") -> Constraint | None:
    """What makes calls valid, or an answer hold what the calculator found; None when there is neither. With "auto" an answer
    is either calls or text, which follows `json_schema` where one is given."""
    steps, forced = steps_of(body), body.tool_choice not in (None, "auto")
    if steps and not json_schema and (not wants_tools(body) or (steps[0].alone and not forced)):
        return steps_constraint(steps)
    if not wants_tools(body):
        return None
    chosen = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else ""
    forms = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": _arguments_schema(tool.function.parameters),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in body.functions
        if chosen in ("", tool.function.name)
    ]
    required = bool(chosen) or body.tool_choice == "required"
    calls = "call" if body.parallel_tool_calls is False or chosen else 'call ("\\n" call){0,7}'
    # A small model would fill its length with the blanks that JSON allows.
    schema = (forms[0] if len(forms) == 1 else {"anyOf": forms}) | {"x-guidance": {"whitespace_flexible": False}}
    text, rule = ("json", f"json: %json {json_schema}\n") if json_schema and not required else ("text", "")
    grammar = _GRAMMAR % ("calls" if required else f"{text} | calls", rule, calls, json.dumps(schema))
    return Constraint(kind="lark", value=grammar)


def _arguments_schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a function's arguments. One that declares none takes `{}`: JSON schema would allow any, and a small
    model invents them. `additionalProperties` or another keyword declares some."""
    declared = {name for name, value in (parameters or {}).items() if value not in ({}, [], None)}
    if declared <= {"type", "title", "description", "$schema", "$id", "$comment"}:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return dict(parameters or {})


class ToolReader:
    """Splits an answer, as it comes, into text and calls."""

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self._held = ""

    def push(self, text: str) -> tuple[str, list[ToolCall]]:
        """(text that belongs to the answer, calls that became complete)."""
        self._held += text
        shown, found = "", list[ToolCall]()
        while self._held:
            start = self._held.find(OPEN)
            if start < 0:
                keep = _overlap(self._held, OPEN)
                shown, self._held = shown + self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                break
            shown, self._held = shown + self._held[:start], self._held[start:]
            end = _end(self._held)
            if end < 0:
                break
            call = _parse(self._held[len(OPEN) : end])
            if call is None:
                shown += self._held[: end + len(CLOSE)]
            else:
                found.append(call)
            self._held = self._held[end + len(CLOSE) :]
        self.calls += found
        return shown if not self.calls else shown.strip("\n"), found

    def flush(self) -> str:
        """What was held back: the beginning of a call that never came to its end is text."""
        held, self._held = self._held, ""
        return held


def _end(text: str) -> int:
    """Where the mark that closes a call stands, -1 before it has come. Inside a JSON string it is part of an argument."""
    marks = (match.start() for match in _STRING_OR_CLOSE.finditer(text, len(OPEN)) if match[0] == CLOSE)
    return next(marks, -1)


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)


def _parse(text: str) -> ToolCall | None:
    try:
        found = json.loads(text)
        name, arguments = found["name"], found.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(name, str):
        return None
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(f"call_{secrets.token_hex(12)}", name, shown)


def calls_out(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """As a message holds them."""
    return [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]
