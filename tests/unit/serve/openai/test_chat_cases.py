"""Requests as other clients send them: functions without parameters, formats beside functions, odd last messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_server import ApiClient, ScriptedEngine

USER = [{"role": "user", "content": "What is the time?"}]
CLOCK = {"type": "function", "function": {"name": "clock"}}
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
POINT = {"type": "object", "properties": {"x": {"enum": [7]}}, "required": ["x"], "additionalProperties": False}


def post(client: ApiClient, **fields: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": USER, "max_tokens": 60, "seed": 1, **fields})


def named(client: ApiClient, **fields: Any) -> tuple[str, str]:
    """(message, param) of a refusal."""
    answer = post(client, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["message"], error["param"]


def test_too_many_items_of_a_union_say_how_many_are_taken(client: ApiClient) -> None:
    message, param = named(client, stop=list("abcdef"))
    assert param == "stop" and "at most 4 stop sequences" in message and "6" in message
    part = {"type": "text", "text": "x"}
    message, param = named(client, messages=[{"role": "user", "content": [part] * 257}])
    assert param == "messages[0].content" and "256" in message
    assert post(client, stop=list("abcd")).status_code == 200 and post(client, stop=None).status_code == 200


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_a_conversation_must_end_with_a_question(client: ApiClient, engine: ScriptedEngine, role: str) -> None:
    message, param = named(client, messages=[*USER, {"role": role, "content": "It is"}])
    assert param == "messages" and role in message and "(" not in message and not engine.asked


def test_an_empty_question_is_refused(client: ApiClient, engine: ScriptedEngine) -> None:
    message, param = named(client, messages=[{"role": "user", "content": " \n"}])
    assert param == "messages" and "empty" in message and not engine.asked


def test_servers_elsewhere_continue_what_they_can(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.takes_raw = True  # type: ignore[attr-defined]
    assert post(client, messages=[*USER, {"role": "assistant", "content": "It is"}]).status_code == 200


def test_an_earlier_refusal_is_read(client: ApiClient, engine: ScriptedEngine) -> None:
    refusal = {"role": "assistant", "content": None, "refusal": "No."}
    assert post(client, messages=[*USER, refusal, *USER]).status_code == 200
    assert [message.content for message in engine.asked[0].messages] == [USER[0]["content"], "No.", USER[0]["content"]]


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}])
def test_a_cyclic_schema_is_refused_in_plain_words(tiny: ApiClient, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    message, _ = named(tiny, response_format=form)
    assert "NoExtension" not in message and "leads back to itself" in message


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}, "required": []}])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "clock"}}])
def test_a_function_without_parameters_gets_no_arguments(tiny: ApiClient, parameters: Any, choice: Any) -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": parameters}}
    for seed in (1, 2):
        answer = post(tiny, tools=[tool], tool_choice=choice, parallel_tool_calls=False, seed=seed, temperature=2)
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"] == {"name": "clock", "arguments": "{}"}


def test_a_function_that_takes_anything_says_so(client: ApiClient, engine: ScriptedEngine) -> None:
    for free in ({"additionalProperties": True}, {"additionalProperties": {"type": "number"}}, {"$ref": "#/$defs/a"}):
        tool = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", **free}}}
        assert post(client, tools=[tool]).status_code == 200
        constraint = engine.asked[-1].params.constraint
        assert constraint is not None and json.dumps(free)[1:-1] in constraint.value


def test_tools_with_a_format_give_calls_or_json(tiny: ApiClient) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT}}
    kinds = set()
    for seed in range(12):
        choice = post(tiny, tools=[CLOCK], response_format=form, seed=seed, temperature=2).json()["choices"][0]
        message = choice["message"]
        kinds.add(choice["finish_reason"])
        if message.get("tool_calls"):
            assert message["tool_calls"][0]["function"]["name"] == "clock"
        elif choice["finish_reason"] == "stop":
            assert json.loads(message["content"]) == {"x": 7}
    assert kinds & {"stop", "tool_calls"}
    forced = post(tiny, tools=[CLOCK], response_format=form, tool_choice="required", parallel_tool_calls=False).json()
    assert forced["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": POINT}}])
def test_tools_with_a_format_become_one_grammar(client: ApiClient, engine: ScriptedEngine, form: Any) -> None:
    assert post(client, tools=[CLOCK], response_format=form).status_code == 200
    constraint = engine.asked[-1].params.constraint
    assert constraint is not None and constraint.value.startswith("start: json | calls") and "clock" in constraint.value
    assert post(client, tools=[CLOCK], response_format=form, tool_choice="none").status_code == 200
    constraint = engine.asked[-1].params.constraint
    assert constraint is not None and constraint.kind == form["type"]


def test_tools_with_other_restrictions_are_refused_by_name(client: ApiClient) -> None:
    assert named(client, tools=[CLOCK], script="Han")[1] == "script"
    assert named(client, tools=[CLOCK], structured_outputs={"regex": "a"})[1] == "structured_outputs"


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_allowed_tools_are_the_only_ones(client: ApiClient, engine: ScriptedEngine) -> None:
    for mode, begins in (("auto", "start: text | calls"), ("required", "start: calls")):
        assert post(client, tools=[CLOCK, OTHER], tool_choice=allowed(mode, "clock")).status_code == 200
        constraint = engine.asked[-1].params.constraint
        assert constraint is not None and constraint.value.startswith(begins)
        assert "clock" in constraint.value and "other" not in constraint.value
    message, param = named(client, tools=[CLOCK], tool_choice=allowed("auto", "nothing"))
    assert param == "tool_choice" and "nothing" in message
    assert named(client, tools=[CLOCK], tool_choice={"type": "custom", "custom": {"name": "x"}})[1] == "tool_choice"


def test_allowed_tools_of_the_responses_api(client: ApiClient, engine: ScriptedEngine) -> None:
    tools = [{"type": "function", "name": name} for name in ("clock", "other")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": tools[:1]}
    answer = client.post("/v1/responses", json={"input": "x", "tools": tools, "tool_choice": choice})
    assert answer.status_code == 200, answer.text
    constraint = engine.asked[-1].params.constraint
    assert constraint is not None and "clock" in constraint.value and "other" not in constraint.value
