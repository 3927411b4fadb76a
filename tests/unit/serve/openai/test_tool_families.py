"""Calls in each family's form: what the grammar lets a model write, and what is read from an answer however it is cut."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from api_server import HEADERS, ApiClient, ScriptedEngine, app_of, tiny_engine
from chatwright.errors import ConfigError
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.serve.openai.tool_calls import constraint_for_tools
from chatwright.serve.openai.tool_reader import ToolReader
from chatwright.serve.openai.wire import ChatRequest
from chatwright.text.tokenizer import Tokenizer
from chatwright.text.tool_format import ToolFormat
from tool_families import TOOL_FAMILIES, WEATHER, history_of, tool_tokenizer

NAMES = sorted(TOOL_FAMILIES)
SERVED = ["granite3", "llama3.1", "mistral v3", "qwen2.5 as chatml", "smollm3"]
NAMED = {"type": "function", "function": {"name": "pick"}}
USER = [{"role": "user", "content": "How is the weather?"}]
PICK = {"type": "function", "function": {"name": "pick", "parameters": {
    "type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}}}  # fmt: skip
HARD = ["plain", "</tool_call>", "]", "}]", '"}', "[TOOL_CALLS] [{", "<tool_call>", "\\", '\\"', "{", "; {", "a\nb", "东京"]


def form_of(name: str) -> ToolFormat:
    form = tool_tokenizer(name).tool_format
    assert form is not None
    return form


def read(form: ToolFormat, parts: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """(text, calls) of an answer in pieces."""
    reader, text, found = ToolReader(form, ("get_weather",)), "", []
    for part in parts:
        more, calls = reader.push(part)
        text, found = text + more, found + calls
    text += reader.flush()
    assert found == reader.calls
    return text, [{"name": call.name, **json.loads(call.arguments)} for call in found]


def written(name: str, city: str, count: int) -> str:
    text = TOOL_FAMILIES[name].two if count == 2 else TOOL_FAMILIES[name].one
    return text.replace('"Oslo"', json.dumps(city, ensure_ascii=False))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("city", HARD)
def test_calls_are_read_wherever_the_answer_is_cut(name: str, city: str) -> None:
    form, count = form_of(name), 2 if TOOL_FAMILIES[name].two else 1
    answer = written(name, city, count)
    expected = ("", [{"name": "get_weather", "city": city}] * count)
    assert read(form, list(answer)) == expected
    for cut in range(len(answer)):
        assert read(form, [answer[:cut], answer[cut:]]) == expected


@pytest.mark.parametrize("name", [name for name in NAMES if TOOL_FAMILIES[name].style != "bare"])
def test_text_before_calls_stays_text(name: str) -> None:
    for answer in ("Let me look. ", "a < b, [1] and <tool_ or [TOOL"):
        assert read(form_of(name), list(answer + written(name, "]", 2))) == (
            answer, [{"name": "get_weather", "city": "]"}] * 2,
        )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_call_stays_text(name: str) -> None:
    form = form_of(name)
    whole = TOOL_FAMILIES[name].one
    body = whole[whole.index("{") : whole.rindex("}") + 1]
    for wrong in ("{}", '{"name": 3}', '{"name": "get_weather", ', "nonsense"):
        answer = whole.replace(body, wrong)
        assert read(form, list(answer)) == (answer, [])
    for cut in range(1, len(whole)):
        text, calls = read(form, list(whole[:cut]))
        if not calls:  # a bare call is whole before its last blank
            assert text == whole[:cut]


def test_llama_calls_after_a_tag_or_one_another_and_answers_in_json() -> None:
    form, one = form_of("llama3.1"), written("llama3.1", "Oslo", 1)
    call = {"name": "get_weather", "city": "Oslo"}
    for answer, count in ((f"<|python_tag|>{one}", 1), (f"\n {one}; {one}", 2), (f"{one}\n<|python_tag|>{one}\n", 2)):
        assert read(form, list(answer)) == ("", [call] * count)
    for text in ('{"name": "other", "parameters": {}}', '{"name": "get_weather"}', f"See {one}", "<|python_", '{"open": '):
        assert read(form, list(text)) == (text, [])


# ---- grammars ----------------------------------------------------------------------------------------------


@cache
def compiler(name: str) -> ConstraintCompiler:
    return ConstraintCompiler(tool_tokenizer(name), tool_tokenizer(name).vocab_size)


def follows(name: str, text: str, **fields: Any) -> bool:
    """Whether the grammar of a request lets the model write a text, and end there. The mark of a call is one token where it
    is a control token."""
    form, pieces = form_of(name), compiler(name).vocabulary.pieces
    body = ChatRequest.model_validate({"messages": USER, "tools": [WEATHER], **fields})
    constraint = constraint_for_tools(body, form=form)
    assert constraint is not None
    matcher, left, mark = compiler(name).matcher(constraint), text.encode(), form.open.encode()
    while left:
        allowed = matcher.mask().nonzero().flatten().tolist()
        if form.open_id in allowed and left.startswith(mark):
            token, size = form.open_id, len(mark)
        else:
            fits = [(len(pieces[i]), i) for i in allowed if pieces[i] and left.startswith(pieces[i])]
            if not fits:
                return False
            size, token = max(fits)
        assert token is not None
        matcher.accept(token)
        left = left[size:]
    return matcher.complete


@pytest.mark.parametrize("name", NAMES)
def test_the_grammar_is_the_form_that_the_model_learned(name: str) -> None:
    one, two = (written(name, "Bø ]</tool_call>", count) for count in (1, 2))
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("auto", "required", named):
        assert follows(name, one, tool_choice=choice), choice
        assert not follows(name, one.replace("get_weather", "other"), tool_choice=choice)
        assert not follows(name, one.replace("city", "town"), tool_choice=choice)
    assert follows(name, "It is cold. {[<", tool_choice="auto") and follows(name, "<think>\nhm\n</think>\n\nSo.")
    assert not follows(name, "It is cold.", tool_choice="required") and not follows(name, "", tool_choice="required")
    if two:
        assert follows(name, two, tool_choice="required") and follows(name, two)
        assert not follows(name, two, parallel_tool_calls=False) and not follows(name, two, tool_choice=named)


def test_no_choice_has_no_grammar() -> None:
    body = ChatRequest.model_validate({"messages": USER, "tools": [WEATHER], "tool_choice": "none"})
    assert constraint_for_tools(body, form=form_of("qwen3")) is None


# ---- over the API ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    """A tiny model of each family behind one server."""
    engines = [tiny_engine(tool_tokenizer(name), name=name, max_positions=2048) for name in SERVED]
    with app_of(tmp_path_factory.mktemp("families"), *engines) as app:
        client = ApiClient(app, HEADERS)
        yield client
        client.close()
    for engine in engines:
        asyncio.run(engine.drain(0))


def ask(client: ApiClient, **fields: Any) -> Any:
    body = {"messages": USER, "tools": [PICK], "max_tokens": 200, "temperature": 1.5, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(("name", "choice"), [*((name, "required") for name in SERVED), ("mistral v3", NAMED)])
def test_a_model_that_has_to_call_calls(served: ApiClient, name: str, choice: Any) -> None:
    fields = {"model": name, "tool_choice": choice, "parallel_tool_calls": False}
    whole = ask(served, seed=3, **fields).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None, whole
    (call,) = whole["message"]["tool_calls"]
    assert call["function"]["name"] == "pick" and json.loads(call["function"]["arguments"]) in ({"n": 1}, {"n": 2})
    assert len(call["id"]) == (9 if name.startswith("mistral") else 29)
    lines = ask(served, seed=3, stream=True, **fields).text.split("\n\n")
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
    streamed = [part["function"] for delta in deltas for part in delta.get("tool_calls", ())]
    assert "".join(part["arguments"] for part in streamed) == call["function"]["arguments"]
    assert not "".join(delta.get("content") or "" for delta in deltas)
    # The conversation goes on with what the server gave.
    result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
    ask(served, model=name, messages=[*USER, whole["message"], result], tool_choice="none", max_tokens=1)


@pytest.mark.parametrize("name", SERVED)
def test_the_prompt_is_the_checkpoints_own(served: ApiClient, name: str) -> None:
    engine = served.app.state.services.registry.get(name)
    tokenizer = tool_tokenizer(name)
    rendered: list[str] = []
    kept = engine.lm.prompt_ids

    def recorded(*args: Any, **options: Any) -> list[int]:
        ids: list[int] = kept(*args, **options)
        rendered.append(tokenizer.decode(ids))
        return ids

    engine.lm.prompt_ids = recorded
    try:
        ask(served, model=name, max_tokens=1)
        ask(served, model=name, max_tokens=1, tool_choice="none")
        ask(served, model=name, max_tokens=1, messages=history_of(1), overflow="drop_oldest")
        body = {"model": name, "input": "Pick.", "tools": [{"type": "function", **PICK["function"]}], "max_output_tokens": 1}
        assert served.post("/v1/responses", json=body).status_code == 200
    finally:
        engine.lm.prompt_ids = kept
    told, untold, history, responses = rendered
    assert "pick" in told and "You may call functions" not in told and "pick" not in untold
    assert "pick" in history and "Oslo" in history and "pick" in responses


def test_long_tools_are_refused_before_they_are_encoded(served: ApiClient) -> None:
    tool = {"type": "function", "function": {"name": "pick", "description": "word " * 60_000}}
    body = {"messages": USER, "tools": [tool], "model": "smollm3"}
    answer = served.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 and "at least" in answer.json()["error"]["message"]


def test_a_template_without_tools_is_named_once(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "chatwright"):
        engine = tiny_engine(tokenizer, name="plain")
        asyncio.run(engine.drain(0))
        other = tiny_engine(tool_tokenizer("qwen3"), name="knows")
        asyncio.run(other.drain(0))
    lines = [record.getMessage() for record in caplog.records if "describe" in record.getMessage()]
    assert len(lines) == 1 and "plain" in lines[0] and engine.tool_format is None


def test_responses_join_the_calls_of_one_answer(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.tool_format = form_of("mistral v3")  # type: ignore[attr-defined]
    items: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
    items += [{"type": "function_call", "call_id": f"fc{n}", "name": "get_weather", "arguments": "{}"} for n in range(2)]
    items += [{"type": "function_call_output", "call_id": f"fc{n}", "output": str(n)} for n in (1, 0)]
    tools = [{"type": "function", **WEATHER["function"]}]
    engine.answer = TOOL_FAMILIES["mistral v3"].two
    answer = client.post("/v1/responses", json={"input": items, "tools": tools}).json()
    question, called, *results = engine.asked[0].messages
    assert [call.id for call in called.tool_calls] == [result.tool_call_id for result in reversed(results)]
    assert all(len(result.tool_call_id) == 9 for result in results) and engine.asked[0].tools == (WEATHER,)
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    assert len({call["id"] for call in calls}) == 2 and all(len(call["call_id"]) == 9 for call in calls)


def test_a_schema_that_cannot_be_followed_is_refused(served: ApiClient) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {"type": "string"}}}}
    for name in ("smollm3", "mistral v3"):
        answer = served.post("/v1/chat/completions", json={"messages": USER, "tools": [tool], "model": name})
        assert answer.status_code == 400, answer.text
    with pytest.raises(ConfigError):
        follows("qwen3", "x", tools=[tool])
