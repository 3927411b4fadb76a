"""Tool calls between the API's JSON and a model that only writes text.

Where the checkpoint's chat template describes tools, it gets the client's functions, earlier calls and their results as they
are, and writes them as the model learned them (`text.tool_format`). Elsewhere the system message describes the functions and
a call is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. A grammar makes what a local model writes valid.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chatwright import records
from chatwright.generation.api import Constraint
from chatwright.generation.calculator_steps import Step, calculator_steps, steps_constraint
from chatwright.records import Message
from chatwright.serve.openai.tool_reader import ToolCall
from chatwright.serve.openai.wire import ChatMessage, ChatRequest, NamedTool
from chatwright.text.tool_format import OWN, ToolFormat

MOST_CALLS = 8  # of one answer
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_INTRODUCTION = """You may call functions to answer the user. These functions exist, as JSON schemas within <tools></tools>:
<tools>
{tools}
</tools>
To call one, write its name and arguments as JSON within <tool_call></tool_call>:
<tool_call>{{"name": "function-name", "arguments": {{"argument-name": "value"}}}}</tool_call>"""


def wants_tools(body: ChatRequest) -> bool:
    """Whether the answer may call a function of the client's."""
    return bool(body.functions) and body.tool_choice != "none"


def tools_for(body: ChatRequest, raw: Mapping[str, Any], form: ToolFormat | None) -> tuple[dict[str, Any], ...]:
    """The functions for a chat template that describes them, exactly as the client wrote them; none for other templates."""
    if form is None or not wants_tools(body):
        return ()
    names = {tool.function.name for tool in body.functions}
    return tuple(
        tool
        for tool in raw.get("tools") or ()
        if isinstance(tool.get("function"), dict) and tool["function"].get("name") in names
    )


def messages_of(body: ChatRequest, *, native: bool = False, form: ToolFormat | None = None) -> tuple[Message, ...]:
    """The conversation as the model reads it. `native`: the engine is told of the tools in its own way. `form`: how the
    checkpoint's chat template writes calls; None: the system message describes the tools."""
    writes = form is not None and (form.writes_calls if wants_tools(body) else form.writes_calls_alone)
    if form is not None and writes:
        return _for_template(body.messages, form)
    messages = [Message(role=_role(m), content=m.text + _calls_text(m, form or OWN)) for m in body.messages]
    if wants_tools(body) and not native and form is None:
        functions = [tool.function.model_dump(exclude_none=True) for tool in body.functions]
        tools = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
        text = _INTRODUCTION.format(tools=tools)
        if messages[0].role == "system":
            messages[0] = Message(role="system", content=f"{messages[0].content}\n\n{text}")
        else:
            messages.insert(0, Message(role="system", content=text))
    return tuple(messages)


def _for_template(given: Sequence[ChatMessage], form: ToolFormat) -> tuple[Message, ...]:
    """Messages whose calls and results are written by the chat template. A result without an id gets that of the first call
    that waits for one."""
    messages: list[Message] = []
    waiting: list[str] = []
    for n, message in enumerate(given):
        calls = tuple(
            records.ToolCall(
                name=call.function.name,
                arguments=_as_object(call.function.arguments),
                id=_call_id(call.id or f"{n}:{m}", form) if call.id or form.short_ids else "",
            )
            for m, call in enumerate(message.tool_calls or ())
        )
        if calls:
            waiting = [call.id for call in calls]
        answered = ""
        if message.role == "tool":
            answered = _call_id(message.tool_call_id, form) if message.tool_call_id else next(iter(waiting), "")
            waiting = [one for one in waiting if one != answered]
        name = message.name or "" if message.role == "tool" else ""
        messages.append(
            Message(role=_role(message), content=message.text, tool_calls=calls, tool_call_id=answered, name=name)
        )
    return _one_by_one(messages) if form.one_call else tuple(messages)


def _one_by_one(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages with several calls as one message per call, each before its result: some templates take no other."""
    out: list[Message] = []
    left = list(messages)
    while left:
        message = left.pop(0)
        if len(message.tool_calls) < 2:
            out.append(message)
            continue
        results = []
        while left and left[0].role == "tool":
            results.append(left.pop(0))
        for n, call in enumerate(message.tool_calls):
            out.append(replace(message, content=message.content if n == 0 else "", tool_calls=(call,)))
            found = next((r for r in results if call.id and r.tool_call_id == call.id), None)
            found = found or next((r for r in results if not r.tool_call_id), None)
            if found is not None:
                results.remove(found)
                out.append(found)
        out += results
    return tuple(out)


def _call_id(given: str, form: ToolFormat) -> str:
    """An id as the template takes it: the client's own, or nine hex digits that stand for it."""
    if not form.short_ids or _SHORT_ID.fullmatch(given):
        return given
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _as_object(arguments: str) -> str:
    """The arguments of an earlier call as the text of a JSON object. Other text becomes its only value."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = arguments
    return json.dumps(parsed if isinstance(parsed, dict) else {"value": parsed}, ensure_ascii=False)


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


def _calls_text(message: ChatMessage, form: ToolFormat) -> str:
    """Earlier calls as text, for templates that do not write them."""
    bodies = [_call_json(call.function.name, call.function.arguments, form) for call in message.tool_calls or ()]
    if not bodies:
        return ""
    if form.style == "tags":
        marked = form.gap.join(f"{form.open}{form.lead}{body}{form.tail}{form.close}" for body in bodies)
    else:
        marked = f"{form.open}{form.lead}[{', '.join(bodies)}]"
    return f"\n{marked}" if form == OWN or message.text else marked


def _call_json(name: str, arguments: str, form: ToolFormat = OWN) -> str:
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = arguments
    text = json.dumps({"name": name, form.key: parsed}, ensure_ascii=False)
    for mark in filter(None, (form.open, form.close)):
        text = text.replace(mark, f"\\u{ord(mark[0]):04x}" + mark[1:])
    return text


# ---- grammars ----------------------------------------------------------------------------------------------


def constraint_for_tools(body: ChatRequest, json_schema: str = "", form: ToolFormat | None = None) -> Constraint | None:
    """What makes calls valid, or an answer hold what the calculator found; None when there is neither. With "auto" an answer
    is either calls or text, which follows `json_schema` where one is given."""
    steps, forced = steps_of(body), body.tool_choice not in (None, "auto")
    if steps and not json_schema and (not wants_tools(body) or (steps[0].alone and not forced)):
        return steps_constraint(steps)
    if not wants_tools(body):
        return None
    form = form or OWN
    chosen = body.tool_choice.function.name if isinstance(body.tool_choice, NamedTool) else ""
    single = body.parallel_tool_calls is False or bool(chosen) or form.one_call
    if chosen or body.tool_choice == "required":
        start = "calls"
    else:
        start = "json | calls" if json_schema else "text | calls"
    rules = [
        f"start: {start}",
        f"text: /{_not_beginning(_first(form))}/",
        *([f"json: %json {json_schema}"] if "json" in start else ()),
        *_call_rules(form, single),
        f"body: %json {json.dumps(_call_schema(body, chosen, form))}",
    ]
    return Constraint(kind="lark", value="\n".join(rules) + "\n")


def _call_rules(form: ToolFormat, single: bool) -> list[str]:
    """The rules `calls` and `call` of a grammar, over `body`."""
    more, mark = MOST_CALLS - 1, f"<[{form.open_id}]>" if form.open_id is not None else _quoted(form.open)
    if form.style == "bare":
        tag = f"({mark})? " if form.open else ""
        return [f"calls: {tag}body" + ("" if single else f' ("; " body){{0,{more}}}')]
    if form.style == "list":
        return [f"calls: {mark} {_quoted(form.lead + '[')} body" + ("" if single else f' (", " body){{0,{more}}}') + ' "]"']
    begin = f"{mark} {_quoted(form.lead)}" if form.lead else mark
    again = "" if single else f" ({_quoted(form.gap) if form.gap else ''} call){{0,{more}}}"
    return [f"calls: call{again}", f"call: {begin} body {_quoted(form.tail + form.close)}"]


def _call_schema(body: ChatRequest, chosen: str, form: ToolFormat) -> dict[str, Any]:
    forms = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                form.key: _arguments_schema(tool.function.parameters),
            },
            "required": ["name", form.key],
            "additionalProperties": False,
        }
        for tool in body.functions
        if chosen in ("", tool.function.name)
    ]
    # A small model would fill its length with the blanks that JSON allows.
    guidance: dict[str, Any] = {"whitespace_flexible": False}
    guidance |= {"item_separator": ", ", "key_separator": ": "} if form.spaced else {}
    return (forms[0] if len(forms) == 1 else {"anyOf": forms}) | {"x-guidance": guidance}


def _first(form: ToolFormat) -> str:
    """Beginning of an answer that calls; "" where that is a control token, which no text holds."""
    if form.style == "bare":
        return "{"
    return "" if form.open_id is not None else form.open


def _not_beginning(mark: str) -> str:
    """An expression for every text that does not begin with `mark`."""
    if not mark:
        return r"(.|\n)*"
    ways = [f"({_escaped(mark[:n])}([^{_escaped(mark[n])}](.|\\n)*)?)" for n in range(len(mark))]
    return "|".join(ways)


def _escaped(text: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$/-])", r"\\\1", text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _arguments_schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a function's arguments. One that declares none takes `{}`: JSON schema would allow any, and a small
    model invents them. `additionalProperties` or another keyword declares some."""
    declared = {name for name, value in (parameters or {}).items() if value not in ({}, [], None)}
    if declared <= {"type", "title", "description", "$schema", "$id", "$comment"}:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return dict(parameters or {})


def calls_out(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """As a message holds them."""
    return [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]
