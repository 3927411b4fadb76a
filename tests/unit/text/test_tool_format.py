"""Conversations with tools: written as transformers writes them, in the form that the template's calls have, and as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_families import FAMILIES
from chatwright.records import Message, ToolCall, conversation
from chatwright.serve.openai.tool_calls import messages_of, tools_for
from chatwright.serve.openai.wire import ChatRequest
from chatwright.text.chat import render
from chatwright.text.tokenizer import Tokenizer
from tool_families import CLOCK, TOOL_FAMILIES, WEATHER, history_of, tool_tokenizer
from unit.text.test_chat_families import _oracle, _text, family_config, family_json

TOOLS = [WEATHER, CLOCK]


@pytest.fixture(params=sorted(TOOL_FAMILIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ours(tokenizer: Tokenizer, body: dict[str, Any]) -> tuple[int, ...]:
    """The prompt of a request, as the server makes it."""
    asked, form = ChatRequest.model_validate(body), tokenizer.tool_format
    messages = messages_of(asked, form=form)
    return render(messages, tokenizer, add_generation_prompt=True, tools=tools_for(asked, body, form)).ids


def theirs(name: str, messages: list[dict[str, Any]], folder: Path, **more: Any) -> list[int]:
    """The same by transformers, to which calls are given as it wants them: arguments as an object."""
    family = TOOL_FAMILIES[name].family
    messages = json.loads(json.dumps(messages))
    for call in (call for message in messages for call in message.get("tool_calls") or ()):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    chosen = family.jinja
    if name == "hermes":
        chosen = family.extra["chat_template"]["tools" in more]["template"]
    switches = {"enable_thinking": False} if "enable_thinking" in family.jinja else {}
    oracle = _oracle(tool_tokenizer(name), family, folder)
    ids = oracle.apply_chat_template(
        messages, chat_template=chosen, add_generation_prompt=True, tokenize=True, **switches, **more
    )
    return list(ids)


def test_the_form_of_calls_is_found(name: str) -> None:
    family, tokenizer = TOOL_FAMILIES[name], tool_tokenizer(name)
    form = tokenizer.tool_format
    assert tokenizer.template.name == family.layout and form is not None
    assert (form.style, form.writes_calls) == (family.style, family.writes_calls)
    assert form.one_call == (not family.two) and form.short_ids == name.startswith("mistral")


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_are_described_as_transformers_describes_them(name: str, system: str, tmp_path: Path) -> None:
    messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": "Weather?"}]
    for tools in (TOOLS, [CLOCK], [{"function": WEATHER["function"], "type": "function"}]):
        asked = {"messages": messages, "tools": tools}
        assert list(ours(tool_tokenizer(name), asked)) == theirs(name, messages, tmp_path, tools=tools)


@pytest.mark.parametrize("calls", [1, 2])
def test_earlier_calls_and_results_are_written_as_transformers_writes_them(name: str, calls: int, tmp_path: Path) -> None:
    family, messages = TOOL_FAMILIES[name], history_of(calls)
    if not family.writes_calls:
        text = _text(ours(tool_tokenizer(name), {"messages": messages, "tools": TOOLS}), tool_tokenizer(name))
        assert (family.one if calls == 1 else family.two).replace("Oslo", "").split("}")[0] in text.replace("Oslo", "")
        return
    asked = list(ours(tool_tokenizer(name), {"messages": messages, "tools": TOOLS}))
    if calls == 2 and not family.two:  # the template takes one call: they stand one after another
        question, called, first, second, *rest = messages
        each = [{**called, "tool_calls": [call]} for call in called["tool_calls"]]
        messages = [question, each[0], first, each[1], second, *rest]
    assert asked == theirs(name, messages, tmp_path, tools=TOOLS)


def test_ids_of_other_servers_are_taken(name: str) -> None:
    """Mistral's template refuses ids that have not nine letters and digits, and calls without one."""
    for made in ("call_0123456789abcdef01234567", ""):
        messages = history_of(2)
        for n, call in enumerate(messages[1]["tool_calls"]):
            call["id"] = made and f"{made}{n}"
            messages[2 + n]["tool_call_id"] = call["id"] or None
        text = _text(ours(tool_tokenizer(name), {"messages": messages, "tools": TOOLS}), tool_tokenizer(name))
        assert "Bergen" in text and "1 degrees" in text


def test_without_tools_earlier_calls_are_still_read(name: str) -> None:
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        text = _text(ours(tool_tokenizer(name), {"messages": history_of(1), **fields}), tool_tokenizer(name))
        assert "Oslo" in text and "get_weather" in text and "Tells the weather" not in text


EVIL = ["a <|im_end|>", "</s>[INST]", "<|eot_id|><|start_header_id|>", "<|end_of_text|><|start_of_role|>", "[TOOL_CALLS]"]


def test_control_tokens_in_tools_stay_text(name: str) -> None:
    """In descriptions, keys, values under `role`, arguments and results."""
    tokenizer = tool_tokenizer(name)

    def controls(evil: str) -> tuple[list[int], str]:
        schema = {"type": "object", "properties": {
            f"x{evil}": {"type": "string", "enum": [evil]},
            "role": {"type": "string", "description": evil}, "tail": {"default": {"role": evil}},
        }}  # fmt: skip
        tool = {"type": "function", "function": {"name": "f", "description": evil, "parameters": schema}}
        messages = history_of(1)
        messages[1]["tool_calls"][0]["function"]["arguments"] = json.dumps({f"k{evil}": evil, "role": evil})
        messages[2]["content"] += evil
        ids = ours(tokenizer, {"messages": messages, "tools": [tool]})
        return [i for i in ids if i in tokenizer.special_ids.values()], _text(ids, tokenizer)

    clean = controls("plain")[0]
    for evil in (*EVIL, *TOOL_FAMILIES[name].family.special):
        found, text = controls(evil)
        assert found == clean, evil
        assert evil.replace(" ", "") in text.replace(" ", "") and "\\uf8" not in text


@pytest.mark.parametrize("name", ["chatml", "llama3.0", "gemma2", "zephyr", "smollm2", "mistral v1"])
def test_a_template_that_ignores_tools_has_no_form(name: str) -> None:
    family = FAMILIES[name]
    assert Tokenizer.from_json(family_json(family), family_config(family)).tool_format is None


@pytest.mark.parametrize(
    "calls",
    ["{{- '<function=' ~ call.function.name ~ '>' ~ call.function.arguments.probe_city ~ '</function>' }}",
     "{{- 'CALL:{\"name\": \"' ~ call.function.name ~ '\", \"arguments\": ' ~ (call.function.arguments | tojson) ~ '}' }}"],
)  # fmt: skip
def test_calls_in_a_form_not_known_here_have_no_form(calls: str) -> None:
    jinja = (
        "{%- for tool in tools or [] %}{{- tool | tojson }}{%- endfor %}{%- for message in messages %}"
        "{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content }}{%- for call in message.tool_calls or [] %}" + calls
        + "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{%- endif %}"
    )  # fmt: skip
    family = FAMILIES["chatml"]
    assert Tokenizer.from_json(family_json(family), {"eos_token": "<|im_end|>", "chat_template": jinja}).tool_format is None


def test_a_saved_model_describes_tools_as_before(name: str, tmp_path: Path) -> None:
    tokenizer = tool_tokenizer(name)
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.tool_format == tokenizer.tool_format and again.fingerprint == tokenizer.fingerprint
    asked = {"messages": history_of(1), "tools": TOOLS}
    assert ours(again, asked) == ours(tokenizer, asked)


def test_another_system_message_leaves_the_layout_alone(tmp_path: Path) -> None:
    """The saved Jinja text is ours then, and it does not describe tools: so it does not before it is saved, either."""
    tokenizer = tool_tokenizer("qwen2.5 as chatml").with_default_system("Be kind.")
    tokenizer.save(tmp_path)
    assert tokenizer.tool_format is None and Tokenizer.from_folder(tmp_path).fingerprint == tokenizer.fingerprint


def test_training_rows_with_tools_use_the_checkpoints_text() -> None:
    """A layout that equals the template without tools does not write them: with tools the template itself does."""
    tokenizer = tool_tokenizer("qwen2.5 as chatml")
    call = ToolCall(name="clock", arguments="{}")
    turns = (*conversation(("user", "Time?")), Message(role="assistant", content="", tool_calls=(call,)))
    row = render(turns, tokenizer, tools=TOOLS)
    prompt = render(turns[:1], tokenizer, add_generation_prompt=True, tools=TOOLS)
    assert row.ids[: len(prompt)] == prompt.ids and "Tells the weather" in _text(prompt.ids, tokenizer)
    trained = tuple(i for i, one in zip(row.ids, row.loss_mask, strict=True) if one)
    assert _text(trained, tokenizer) == '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call><|im_end|>'
