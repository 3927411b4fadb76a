"""Chooses the template of a tokenizer: one of our layouts where it equals the checkpoint's own Jinja, else that Jinja."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from chatwright.errors import ModelError, TemplateError
from chatwright.text.chat_template import TEMPLATE_FIELD, ChatTemplate, detect, is_ours
from chatwright.text.jinja_sandbox import RenderResult
from chatwright.text.layouts import lay_out
from chatwright.text.native_template import PROBES, NativeTemplate, Probed, probe
from chatwright.text.tokenizer_folder import named_templates

# Settings that were chosen here stand at the beginning of an exported native template, between these comments.
_HEAD_BEGIN, _HEAD_END = "{# chatwright.settings #}", "{# /chatwright.settings #}"
_HEAD = re.compile(re.escape(_HEAD_BEGIN) + ".*?" + re.escape(_HEAD_END), re.DOTALL)
_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class AddedToken:
    """An entry of `added_tokens` in tokenizer.json."""

    id: int
    special: bool
    lstrip: bool
    """Swallows the blanks before it."""
    rstrip: bool
    """Swallows the blanks after it."""


@dataclass(frozen=True)
class Spoken:
    """The template of a tokenizer."""

    template: ChatTemplate
    native: NativeTemplate | None = None
    """Set when `template` is native."""
    for_tools: NativeTemplate | None = None
    """The checkpoint's own template, for conversations with tools, where it says something about them."""
    controls: frozenset[str] = frozenset()
    """Added tokens that the native template writes."""
    problem: str = ""
    """Why conversations cannot be rendered; empty when they can."""


def added_tokens(tokenizer_json: str, source: str) -> dict[str, AddedToken]:
    """The added tokens of a tokenizer.json by their text. ModelError when it is damaged."""
    try:
        rows = json.loads(tokenizer_json).get("added_tokens", [])
        return {
            row["content"]: AddedToken(row["id"], *(bool(row.get(flag)) for flag in ("special", "lstrip", "rstrip")))
            for row in rows
        }
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise ModelError(f"{source}: is not a tokenizer.json (damaged, or of another kind)") from None


def choose_template(config: Mapping[str, Any], added: Mapping[str, AddedToken], *, bos: str, eos: str) -> Spoken:
    """The template that `config` (tokenizer_config.json) and the added tokens ask for.

    A Jinja template that cannot be used is no error here: models are loaded for raw text too. `problem` says it.
    """
    named = named_templates(config)
    if TEMPLATE_FIELD in config:
        named = {name: _HEAD.sub("", text) for name, text in named.items()}
    source = named.get("default") or next(iter(named.values()), "")
    ids = {name: token.id for name, token in added.items()}
    fixed = ChatTemplate.from_dict(config[TEMPLATE_FIELD]) if TEMPLATE_FIELD in config else None
    if fixed is not None and fixed.name != "native":
        return _fixed_layout(fixed, config, added, bos=bos, eos=eos, source=source + named.get("tool_use", ""))
    if not source or (fixed is None and is_ours(source)):
        return Spoken(detect(ids, bos=bos, eos=eos, jinja=source))
    try:
        probed = _probe(source, named.get("tool_use", ""), json.dumps(_tokens(config)))
    except TemplateError as error:
        return Spoken(_layout(ids, bos, eos, source) or ChatTemplate(name="plain", end_of_turn=eos), problem=(
            f"the checkpoint's chat template cannot be used: {error}. Choose another with --template: a file with a Jinja "
            "template, or chatml, llama3, gemma, mistral or plain"
        ))  # fmt: skip
    if fixed is None and (layout := _layout(ids, bos, eos, source)) is not None:
        for tool_turns in ("", "qwen") if layout.name == "chatml" else ("",):
            if speaks_like(replace(layout, tool_turns=tool_turns), probed.results):
                about_tools = "tools" in probed.template.source + probed.template.tool_source
                return Spoken(replace(layout, tool_turns=tool_turns), for_tools=probed.template if about_tools else None)
    return _native(fixed, probed, frozenset(added), bos, eos)


def _fixed_layout(
    fixed: ChatTemplate, config: Mapping[str, Any], added: Mapping[str, AddedToken], *, bos: str, eos: str, source: str
) -> Spoken:
    """A layout that was chosen before. Tools are described by the checkpoint's own template where that is still stored: it
    is kept only while it says what the layout says."""
    if "tools" not in source or is_ours(source):
        return Spoken(fixed)
    bare = {name: value for name, value in config.items() if name != TEMPLATE_FIELD}
    found = choose_template(bare, added, bos=bos, eos=eos)
    return Spoken(fixed, for_tools=found.for_tools if found.template == fixed else None)


def _native(fixed: ChatTemplate | None, probed: Probed, names: frozenset[str], bos: str, eos: str) -> Spoken:
    names |= {name for name in (bos, eos) if name}
    found = ChatTemplate(name="native", bos=probed.bos(bos), end_of_turn=probed.end_of_turn(names, eos))
    if not found.end_of_turn:
        raise TemplateError(
            'no eos token is named and the chat template writes none; add "eos_token" to tokenizer_config.json'
        )
    return Spoken(fixed or found, probed.template, probed.template, probed.controls(names))


def _layout(ids: Mapping[str, int], bos: str, eos: str, source: str) -> ChatTemplate | None:
    try:
        return detect(ids, bos=bos, eos=eos, jinja=source)
    except TemplateError:
        return None


def _tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """The special tokens as transformers gives them to a template."""
    found = {name: text for name in _TOKEN_NAMES if (text := _text(config.get(name)))}
    more = config.get("additional_special_tokens")
    return found | ({"additional_special_tokens": [_text(one) for one in more]} if isinstance(more, list) and more else {})


def _text(value: Any) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


@lru_cache(64)
def _probe(source: str, tool_source: str, tokens: str) -> Probed:
    return probe(source, json.loads(tokens), tool_source)


def speaks_like(layout: ChatTemplate, results: tuple[RenderResult, ...]) -> bool:
    """True when a layout writes the probes byte for byte as the native template does. Where that refuses a conversation, a
    layout may still have a form for it."""
    for (messages, ask), result in zip(PROBES, results, strict=True):
        try:
            ours = "".join(piece.text for piece in lay_out(messages, layout, [False] * len(messages), ask))
        except TemplateError:
            ours = None
        if not result.error and result.text != ours:
            return False
    return True


def with_settings(stored: str | list[dict[str, str]], template: ChatTemplate) -> str | list[dict[str, str]]:
    """A native template for other programs, with settings that were chosen here as its defaults."""
    if not isinstance(stored, str):
        return [row | {"template": str(with_settings(row["template"], template))} for row in stored]
    head = ""
    if template.default_system:
        system = json.dumps(template.default_system, ensure_ascii=False)
        head += "{% if messages[0]['role'] != 'system' %}{% set messages = [{'role': 'system', 'content': " + system
        head += "}] + messages %}{% endif %}"
    if template.thinking:
        value = "true" if template.thinking == "on" else "false"
        head += "{% if enable_thinking is not defined %}{% set enable_thinking = " + value + " %}{% endif %}"
    bare = _HEAD.sub("", stored)
    return f"{_HEAD_BEGIN}{head}{_HEAD_END}{bare}" if head else bare
