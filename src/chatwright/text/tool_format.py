"""The form in which a checkpoint's chat template writes tool calls, found by rendering a call.

A form is a style, the marks around the JSON of a call, and the key of the arguments. Three styles are known:
* tags: `<tool_call>{...}</tool_call>` (Hermes, Qwen2.5, Qwen3, SmolLM3, Granite 4),
* list: `[TOOL_CALLS] [{...}, {...}]` (Mistral), `<|tool_call|>[{...}]` (Granite 3),
* bare: an answer that is `{"name": ..., "parameters": {...}}`, after `<|python_tag|>` or not (Llama 3.1 to 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from chatwright.errors import TemplateError
from chatwright.records import Message, ToolCall
from chatwright.text.chat_template import ChatTemplate
from chatwright.text.jinja_sandbox import RenderResult
from chatwright.text.native_template import NativeTemplate

Style = Literal["tags", "list", "bare"]


@dataclass(frozen=True, kw_only=True)
class ToolFormat:
    """The form in which a model writes calls of functions."""

    style: Style
    """tags, list or bare."""
    open: str
    """Beginning of a call (tags), a list of calls (list), or may stand before a call (bare; "": nothing may)."""
    open_id: int | None = None
    """The control token that `open` is; None where it is text."""
    close: str = ""
    """End of a call; tags only."""
    lead: str = ""
    """Blanks between `open` and the JSON."""
    tail: str = ""
    """Blanks between the JSON and `close`."""
    gap: str = "\n"
    """Separator of two calls; tags only."""
    key: Literal["arguments", "parameters"] = "arguments"
    """The key of the arguments."""
    spaced: bool = True
    """JSON has a blank after `:` and `,`."""
    one_call: bool = False
    """The template refuses a message with two calls."""
    short_ids: bool = False
    """The template takes only ids of nine letters and digits (Mistral)."""
    writes_calls: bool = True
    """The template writes the calls of earlier messages; else they have to be part of their content."""
    writes_calls_alone: bool = True
    """The same for a conversation without tools."""


OWN = ToolFormat(style="tags", open="<tool_call>", close="</tool_call>", spaced=False, writes_calls=False)
"""Our own form, for models whose template ignores tools."""

_NAME, _ARGUMENT, _VALUE, _ID = "probe_weather", "probe_city", "Oslo-probe", "probe1234"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Tells the weather of a place.",
        "parameters": {"type": "object", "properties": {_ARGUMENT: {"type": "string"}}, "required": [_ARGUMENT]},
    },
}
_CALL = (
    rf'\{{"name":(?P<blank> ?)"{_NAME}", ?"(?P<key>arguments|parameters)": ?\{{"{_ARGUMENT}": ?"{_VALUE}"\}}'
    r'(?:, ?"id": ?"\w+")?\}'
)
_TAGS = re.compile(rf"<tool_call>(?P<lead>\s*){_CALL}(?P<tail>\s*)</tool_call>")
_LIST = re.compile(rf"(?P<open>\[TOOL_CALLS\]|<\|tool_call\|>)(?P<lead>\s*)\[{_CALL}\s*\]")
_BARE = re.compile(_CALL)
_PYTHON_TAG = "<|python_tag|>"


def detect_format(
    template: NativeTemplate, settings: ChatTemplate, special_ids: Mapping[str, int], *, layout: str
) -> ToolFormat | None:
    """The form of a template's calls; None when it does not describe tools, or writes calls in a form not known here.

    `layout`: the layout that renders conversations without tools, "native" for the template itself.
    """
    if "tools" not in template.source + template.tool_source:
        return None
    ask = Message(role="user", content="How is the weather?")
    one, two, long = (_called(ids) for ids in ((_ID,), (_ID, _ID[::-1]), (f"call_{_ID}",)))
    try:
        described, called, twice, long_id = template.render(
            [((ask,), True, None), *(((ask, message), False, None) for message in (one, two, long))], settings, [_TOOL]
        )
        (alone,) = template.render([((ask, one), False, None)], settings)
    except TemplateError:
        return None
    if described.error or _NAME not in described.text:
        return None
    found = _form(called, described.text, twice, special_ids)
    if found is None:
        return None
    return replace(
        found,
        one_call=found.writes_calls and bool(twice.error),
        short_ids=found.writes_calls and bool(long_id.error),
        writes_calls_alone=layout == "chatml" or (layout == "native" and _VALUE in alone.text),
    )


def _called(ids: Sequence[str]) -> Message:
    arguments = f'{{"{_ARGUMENT}": "{_VALUE}"}}'
    return Message(
        role="assistant", content="", tool_calls=tuple(ToolCall(name=_NAME, arguments=arguments, id=one) for one in ids)
    )


def _form(
    called: RenderResult, described: str, twice: RenderResult, special_ids: Mapping[str, int]
) -> ToolFormat | None:
    if _VALUE not in called.text:
        return _described_form(described, special_ids)
    common: dict[str, Any]
    if match := _TAGS.search(called.text):
        between = re.search(r"</tool_call>(\s*)<tool_call>", twice.text)
        common = {"style": "tags", "open": "<tool_call>", "close": "</tool_call>", "tail": match["tail"],
                  "gap": between[1] if between else "\n", "lead": match["lead"]}  # fmt: skip
    elif match := _LIST.search(called.text):
        common = {"style": "list", "open": match["open"], "lead": match["lead"]}
    elif (match := _BARE.search(called.text)) and _begins_answer(called.text, match.start(), described):
        common = {"style": "bare", "open": _PYTHON_TAG if _PYTHON_TAG in special_ids else ""}
    else:
        return None
    return ToolFormat(
        **common, open_id=special_ids.get(common["open"]), key=match["key"], spaced=bool(match["blank"])  # type: ignore[arg-type]
    )


def _begins_answer(text: str, start: int, prompt: str) -> bool:
    """True when nothing but the prompt, and `<|python_tag|>` or not, stands before a call."""
    return text[:start].removesuffix(_PYTHON_TAG).rstrip() == prompt.rstrip()


def _described_form(described: str, special_ids: Mapping[str, int]) -> ToolFormat | None:
    """The form that the description of the tools asks for, of a template that does not write calls itself."""
    if "<tool_call>" in described:
        return ToolFormat(
            style="tags", open="<tool_call>", open_id=special_ids.get("<tool_call>"), close="</tool_call>", lead="\n",
            tail="\n", writes_calls=False,
        )  # fmt: skip
    if mark := next((mark for mark in ("<|tool_call|>", "[TOOL_CALLS]") if mark in described), ""):
        return ToolFormat(style="list", open=mark, open_id=special_ids.get(mark), writes_calls=False)
    return None
