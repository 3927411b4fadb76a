"""Chat templates that describe tools: own Jinja texts with the constructs that each family uses, and how it writes calls.

Nothing is copied: the templates are written for these tests after the formats that the sources beside them document.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from chat_families import _CALLS_QWEN, _TOOL_TURNS_QWEN, FAMILIES, QWEN3, QWEN25, Family
from chatwright.text.tokenizer import Tokenizer
from unit.text.test_chat_families import family_config, family_json

_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TAGS = ("<tool_call>", "</tool_call>")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "Tells the time.", "parameters": {}}}

# A template whose conversations without tools are exactly the layout `chatml`.
_CHATML_WITH_TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content ~ '\\n\\n' }}{%- endif %}"
    "{{- '# Tools\\n\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\n\\nWrite calls within <tool_call></tool_call>.<|im_end|>\\n' }}"
    "{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}"
    "{%- endif %}\n{%- for message in messages %}\n"
    "    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}\n"
    "        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}\n        {%- set said = message.content %}\n"
    "        {{- '<|im_start|>assistant\\n' ~ said }}\n" + _CALLS_QWEN + "        {{- '<|im_end|>\\n' }}\n"
    + _TOOL_TURNS_QWEN + "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n"
)  # fmt: skip
_CHATML = FAMILIES["chatml"].jinja
# Tools in the first user message, one call at a time, `parameters`, results in a turn of ipython.
_LLAMA31 = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n"
    "{%- if tools is not none %}{{- 'Environment: ipython\\n' }}{%- endif %}\n"
    "{{- 'Today Date: 26 Jul 2024\\n\\n' ~ system ~ '<|eot_id|>' }}\n"
    "{%- if tools is not none %}\n"
    "    {%- set question = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}\n"
    "    {{- '<|start_header_id|>user<|end_header_id|>\\n\\nAnswer with a call as "
    "{\"name\": function name, \"parameters\": dictionary}.\\n\\n' }}\n"
    "    {%- for tool in tools %}{{- tool | tojson(indent=4) }}{{- '\\n\\n' }}{%- endfor %}{{- question ~ '<|eot_id|>' }}\n"
    "{%- endif %}\n{%- for message in messages %}\n"
    "    {%- if message.role == 'tool' or message.role == 'ipython' %}\n"
    "        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}\n"
    "        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}\n"
    "        {%- else %}{{- message.content }}{%- endif %}{{- '<|eot_id|>' }}\n"
    "    {%- elif 'tool_calls' in message %}\n"
    "        {%- if message.tool_calls | length != 1 %}{{- raise_exception('One call at a time') }}{%- endif %}\n"
    "        {%- set call = message.tool_calls[0].function %}\n"
    "        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "        {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}\n"
    "    {%- else %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}\n"
)


def _mistral(blank: str) -> str:
    """v3 (a blank after the marks) and v7 (none): tools before the last question, ids of nine characters."""
    return (
        "{{- bos_token }}\n{%- set asked = messages | selectattr('role', 'equalto', 'user') | list %}\n"
        "{%- for message in messages %}\n"
        "    {%- if message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}\n"
        "    {%- elif message.role == 'user' %}\n"
        "        {%- if tools is not none and message == asked[-1] %}{{- '[AVAILABLE_TOOLS]" + blank + "[' }}\n"
        "            {%- for tool in tools %}{{- '{\"type\": \"function\", \"function\": {' }}\n"
        "                {%- for key, value in tool.function.items() if key != 'return' %}\n"
        "                    {%- if value is string %}{{- '\"' ~ key ~ '\": \"' ~ value ~ '\"' }}\n"
        "                    {%- else %}{{- '\"' ~ key ~ '\": ' ~ (value | tojson) }}{%- endif %}\n"
        "                    {%- if not loop.last %}{{- ', ' }}{%- endif %}\n                {%- endfor %}\n"
        "                {{- '}}' }}{%- if not loop.last %}{{- ', ' }}{%- endif %}\n            {%- endfor %}\n"
        "            {{- '][/AVAILABLE_TOOLS]' }}\n        {%- endif %}\n"
        "        {{- '[INST]" + blank + "' + message.content + '[/INST]' }}\n"
        "    {%- elif message.tool_calls is defined and message.tool_calls is not none %}\n"
        "        {{- '[TOOL_CALLS]" + blank + "[' }}\n        {%- for call in message.tool_calls %}\n"
        "            {%- set out = call.function | tojson %}{{- out[:-1] }}\n"
        "            {%- if not call.id is defined or call.id | length != 9 %}\n"
        "                {{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{%- endif %}\n"
        "            {{- ', \"id\": \"' + call.id + '\"}' }}{%- if not loop.last %}{{- ', ' }}\n"
        "            {%- else %}{{- ']' + eos_token }}{%- endif %}\n        {%- endfor %}\n"
        "    {%- elif message.role == 'assistant' %}{{- '" + blank + "' + message.content + eos_token }}\n"
        "    {%- elif message.role == 'tool' %}\n"
        "        {%- if message.tool_call_id | default('') | length != 9 %}\n"
        "            {{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{%- endif %}\n"
        "        {{- '[TOOL_RESULTS]" + blank + "{\"content\": ' + (message.content | string) + ', \"call_id\": \"' "
        "+ message.tool_call_id + '\"}[/TOOL_RESULTS]' }}\n"
        "    {%- else %}{{- raise_exception('Unknown role') }}{%- endif %}\n{%- endfor %}\n"
    )


# Describes tools; earlier calls are not written: the client's content holds them.
_SMOLLM3 = (
    "{{- '<|im_start|>system\\n' }}{%- if messages[0].role == 'system' %}{{- messages[0].content ~ '\\n' }}{%- endif %}\n"
    "{%- if tools %}{{- '### Tools\\n\\nReturn a json object within <tool_call></tool_call> tags:\\n' }}"
    "{%- for tool in tools %}{{- tool | string ~ '\\n' }}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}\n"
    "{%- for message in messages %}\n"
    "    {%- if message.role == 'user' %}{{- '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' ~ message.content ~ '<|im_end|>\\n' }}\n"
    "    {%- elif message.role == 'tool' %}{{- '<|im_start|>user\\n' ~ message.content ~ '<|im_end|>\\n' }}{%- endif %}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n"
)
_GRANITE3 = (
    "{%- if tools %}{{- '<|start_of_role|>available_tools<|end_of_role|>' ~ (tools | tojson(indent=4)) ~ "
    "'<|end_of_text|>\\n' }}{{- '<|start_of_role|>system<|end_of_role|>Respond with <|tool_call|> and a JSON list of tools."
    "<|end_of_text|>\\n' }}{%- endif %}\n{%- for message in messages %}\n"
    "    {%- set role = 'tool_response' if message.role == 'tool' else message.role %}\n"
    "    {{- '<|start_of_role|>' ~ role ~ '<|end_of_role|>' ~ message.content ~ '<|end_of_text|>\\n' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}\n"
)
_GRANITE4 = _CHATML_WITH_TOOLS
for _ours, _theirs in (("<|im_start|>' ~ message.role ~ '\\n", "<|start_of_role|>' ~ message.role ~ '<|end_of_role|>"),
                       ("<|im_start|>system\\n", "<|start_of_role|>system<|end_of_role|>"),
                       ("<|im_start|>user", "<|start_of_role|>user<|end_of_role|>"),
                       ("<|im_start|>assistant\\n", "<|start_of_role|>assistant<|end_of_role|>"),
                       ("<|im_end|>", "<|end_of_text|>")):  # fmt: skip
    _GRANITE4 = _GRANITE4.replace(_ours, _theirs)
_GRANITE = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
           "<|python_tag|>")  # fmt: skip
_MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ToolFamily:
    """A template that describes tools."""

    family: Family
    one: str
    """An answer that calls `get_weather` with {"city": "Oslo"}, without the token that ends it."""
    two: str = ""
    """The same call twice; "": the template takes one call in a message."""
    style: str = "tags"
    writes_calls: bool = True
    """The template writes earlier calls; transformers renders them too."""
    layout: str = "native"


def _family(source: str, jinja: str, special: tuple[str, ...], eos: str, **more: Any) -> Family:
    return Family(source=source, jinja=jinja, expected="", special=special, eos=eos, end=eos, **more)


_JSON = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
_TAGGED = f"<tool_call>\n{_JSON}\n</tool_call>"
_ID = ', "id": "abcDEF123"'
TOOL_FAMILIES: dict[str, ToolFamily] = {
    "qwen2.5": ToolFamily(
        family=_family("qwen.readthedocs.io, Function Calling (Hermes-style)", QWEN25, _IM, "<|im_end|>", text=_TAGS),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}",
    ),
    "qwen2.5 as chatml": ToolFamily(
        family=_family("as before; without tools it is the layout chatml", _CHATML_WITH_TOOLS, _IM, "<|im_end|>",
                       text=_TAGS),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}", layout="chatml",
    ),
    "qwen3": ToolFamily(
        family=_family("model card of Qwen/Qwen3-0.6B", QWEN3, _IM, "<|im_end|>", text=("<think>", "</think>", *_TAGS)),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}",
    ),
    "hermes": ToolFamily(
        family=_family(
            "model card of NousResearch/Hermes-2-Pro-Mistral-7B: two templates, `default` and `tool_use`", _CHATML, _IM,
            "<|im_end|>",
            extra={"chat_template": [{"name": "default", "template": _CHATML},
                                     {"name": "tool_use", "template": _CHATML_WITH_TOOLS}]},
        ),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}", layout="chatml",
    ),
    "smollm3": ToolFamily(
        family=_family("model card of HuggingFaceTB/SmolLM3-3B: xml tools", _SMOLLM3, _IM, "<|im_end|>"),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}", writes_calls=False,
    ),
    "granite4": ToolFamily(
        family=_family("IBM Granite 4 docs, tool calling", _GRANITE4, _GRANITE[:3], "<|end_of_text|>"),
        one=_TAGGED, two=f"{_TAGGED}\n{_TAGGED}",
    ),
    "granite3": ToolFamily(
        family=_family("IBM Granite 3 docs, prompt engineering guide", _GRANITE3, _GRANITE, "<|end_of_text|>"),
        one=f"<|tool_call|>[{_JSON}]", two=f"<|tool_call|>[{_JSON}, {_JSON}]", style="list", writes_calls=False,
    ),
    "llama3.1": ToolFamily(
        family=_family("llama.com, Llama 3.1: JSON tool calling", _LLAMA31, _LLAMA3, "<|eot_id|>", bos="<|begin_of_text|>"),
        one=_JSON.replace("arguments", "parameters"), style="bare",
    ),
    "mistral v3": ToolFamily(
        family=_family("mistral-common docs, Tokenizers: V3", _mistral(" "), _MISTRAL, "</s>", bos="<s>", pieces=True),
        one=f"[TOOL_CALLS] [{_JSON}]", two=f"[TOOL_CALLS] [{_JSON}, {_JSON}]", style="list",
    ),
    "mistral v7": ToolFamily(
        family=_family("mistral-common docs, Tokenizers: V7-Tekken", _mistral(""), _MISTRAL, "</s>", bos="<s>"),
        one=f"[TOOL_CALLS][{_JSON}]", two=f"[TOOL_CALLS][{_JSON}, {_JSON}]", style="list",
    ),
}  # fmt: skip


@cache
def tool_tokenizer(name: str) -> Tokenizer:
    """A tiny tokenizer with the family's template."""
    family = TOOL_FAMILIES[name].family
    return Tokenizer.from_json(family_json(family), family_config(family))


def history_of(calls: int, *, ids: bool = True) -> list[dict[str, Any]]:
    """A question, an answer with calls, their results, and what follows."""
    made = [{"id": f"abcDEF12{3 + n}", "type": "function",
             "function": {"name": "get_weather", "arguments": json.dumps({"city": city})}}
            for n, city in enumerate(["Oslo", "Bergen"][:calls])]  # fmt: skip
    results = [{"role": "tool", "content": f"{n} degrees", **({"tool_call_id": one["id"]} if ids else {})}
               for n, one in enumerate(made)]  # fmt: skip
    return [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": made},
        *results,
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": "And tomorrow?"},
    ]
