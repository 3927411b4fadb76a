"""Chat templates: the layouts that `text.layouts` knows by name, how one is told from a tokenizer, and their Jinja text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from chatwright.errors import TemplateError

TemplateName = Literal["chatml", "llama3", "gemma", "mistral", "plain", "native"]
TEMPLATE_FIELD = "chatwright.template"
# Training, evaluation and a resumed run must render the same text on any day. The day is the one that Llama 3.1 to 3.3
# write when they are not given any.
DEFAULT_DATE = "2024-07-26"


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """Layout of a conversation around its text."""

    name: TemplateName
    """chatml (SmolLM2, Qwen), llama3, gemma, mistral, plain for models without control tokens, or native: the
    checkpoint's own Jinja template."""
    default_system: str = ""
    """chatml and native: the system message used when a conversation has none; "" for what the template does then."""
    answer_prefix: str = ""
    """chatml only: text put before the last answer (Qwen3's empty `<think>` block: answers without thinking)."""
    bos: str = ""
    """Control token before everything, "" for none."""
    end_of_turn: str = ""
    """Control token after each answer; it is trained, and generation stops at it."""
    tool_turns: str = ""
    """chatml only: "qwen" writes results of tools as Qwen does, in a user turn; "": in a turn of the role tool."""
    thinking: str = ""
    """native only: "on" and "off" set `enable_thinking`; "": off where the template has that switch."""
    date: str = ""
    """native only: the day (ISO) that the template's clock shows; "": `DEFAULT_DATE`."""

    def controls(self) -> frozenset[str]:
        """The control tokens this template inserts (of a native one, those known without rendering it)."""
        return frozenset({*_CONTROLS.get(self.name, ()), self.bos, self.end_of_turn} - {""})

    def to_dict(self) -> dict[str, str]:
        """For the `chatwright.template` field of tokenizer_config.json."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: Any) -> ChatTemplate:
        """Read back what `to_dict` wrote; TemplateError when it is something else."""
        known = set(cls.__dataclass_fields__)
        if not isinstance(fields, dict) or not set(fields) <= known or fields.get("name") not in get_args(TemplateName):
            raise TemplateError(
                f"the field {TEMPLATE_FIELD!r} of tokenizer_config.json must hold {sorted(known)}, "
                f"with name one of {', '.join(get_args(TemplateName))}"
            )
        if not all(isinstance(value, str) for value in fields.values()):
            raise TemplateError(f"the field {TEMPLATE_FIELD!r} of tokenizer_config.json must hold texts")
        return cls(**fields)


_CONTROLS: Mapping[TemplateName, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": ("[INST]", "[/INST]"),
    "plain": (),
}


def is_ours(jinja: str) -> bool:
    """True when `jinja` below wrote the text."""
    return jinja.startswith(f"{{# {TEMPLATE_FIELD} {{")


def detect(added_tokens: Mapping[str, int], *, bos: str, eos: str, jinja: str = "") -> ChatTemplate:
    """The template of a tokenizer, from its control tokens; `jinja` (its own template, if any) gives the defaults.

    Models without control tokens get `plain`: "User:" and "Assistant:" paragraphs, each answer closed by `eos`.
    """
    if own := re.match(r"\{# " + re.escape(TEMPLATE_FIELD) + r" (\{.*?\}) #\}", jinja):
        try:
            return ChatTemplate.from_dict(json.loads(own[1]))
        except ValueError:
            raise TemplateError(f"the {TEMPLATE_FIELD} comment of the chat template is damaged") from None
    known = [n for n, needed in _CONTROLS.items() if needed and all(token in added_tokens for token in needed)]
    found = layout_named(known[0] if known else "plain", bos=bos, eos=eos)
    if found.name == "chatml" and jinja:
        return replace(found, default_system=_chatml_default_system(jinja), tool_turns="")
    return found


def layout_named(name: TemplateName, *, bos: str, eos: str) -> ChatTemplate:
    """A layout of ours for a tokenizer with these tokens. TemplateError: it begins with a bos token, and there is none."""
    if name == "plain":
        return ChatTemplate(name="plain", end_of_turn=eos)
    if name == "chatml":
        return ChatTemplate(name=name, end_of_turn="<|im_end|>", tool_turns="qwen")
    if not bos:
        raise TemplateError(
            f"this tokenizer has {name} control tokens but no bos token; name it in tokenizer_config.json"
        )
    return ChatTemplate(
        name=name, bos=bos, end_of_turn={"llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(name, eos)
    )


def _chatml_default_system(jinja: str) -> str:
    """The literal system message a chatml Jinja template writes by itself (SmolLM2, Qwen2.5), "" when it has none."""
    found = re.search(r"<\|im_start\|>system(?:\\n|\n)((?:[^'\"{}\\]|\\.)+?)<\|im_end\|>", jinja)
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[1]) if found else ""


# ---- the same layout as Jinja, for exported folders --------------------------------------------------------


def jinja(template: ChatTemplate) -> str:
    """A Jinja chat template that renders as `render` does, for transformers, vLLM and llama.cpp.

    It starts with a comment that `detect` reads back, so that nothing is lost where only the Jinja text travels (GGUF).
    """
    fields = json.dumps(template.to_dict()).replace("#", "\\u0023")
    assert template.name != "native", "a native template has a text of its own"
    comment = f"{{# {TEMPLATE_FIELD} {fields} #}}"
    system = f"<|im_start|>system\n{template.default_system}<|im_end|>\n" if template.default_system else ""
    values = {**vars(template), "system_turn": system}
    return comment + re.sub(r"@(\w+)@", lambda m: _quote(values[m[1]]), _JINJA[template.name])


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


_FOLD = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}{% endfor %}"
)
_JINJA: Mapping[TemplateName, str] = {
    "chatml": (
        "{% if messages[0]['role'] != 'system' %}{{ @system_turn@ }}{% endif %}"
        "{% for message in messages %}"
        "{% if message['role'] == 'tool' and @tool_turns@ == 'qwen' %}"
        "{% if loop.first or messages[loop.index0 - 1]['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
        "{{ '\\n<tool_response>\\n' + message['content'] + '\\n</tool_response>' }}"
        "{% if loop.last or messages[loop.index0 + 1]['role'] != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}"
        "{% else %}{% set thought = message.reasoning_content or '' %}"
        "{% set said = ('<think>\\n' + thought + '\\n</think>\\n\\n' if thought else '') + (message['content'] or '') %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if loop.last and message['role'] == 'assistant' and not said.startswith('<think>') %}"
        "{{ @answer_prefix@ }}{% endif %}{{ said }}"
        "{% for call in message.tool_calls or [] %}{{ ('\\n' if said or not loop.first else '') + '<tool_call>\\n' "
        "+ {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '\\n</tool_call>' }}{% endfor %}"
        "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' + @answer_prefix@ }}{% endif %}"
    ),
    "llama3": (
        "{{ @bos@ }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{{ message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "gemma": _FOLD
    + (
        "{{ @bos@ }}{% for message in turns %}"
        "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' }}"
        "{% if loop.first %}{{ system }}{% endif %}{{ message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": _FOLD
    + (
        "{{ @bos@ }}{% for message in turns %}{% if message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] | trim + @end_of_turn@ }}{% else %}"
        "{{ '[INST] ' + (system if loop.first else '') + message['content'] + '[/INST]' }}{% endif %}{% endfor %}"
    ),
    "plain": (
        "{% for message in messages %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
        "{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant'}[message['role']] + ':\\n' }}"
        "{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ @end_of_turn@ }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\\n\\nAssistant:\\n' }}{% endif %}"
    ),
}
