"""Chat completions: whole, streamed, with tools, log-probabilities, usage, errors in mid-stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_server import ApiClient, ScriptedEngine
from chatwright.serve.engine import EngineGone

USER = [{"role": "user", "content": "hi"}]
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def ask(client: ApiClient, **fields: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": USER, **fields})


def chunks(response: Any) -> list[dict[str, Any]]:
    """The data of a stream, its end checked."""
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def test_answer_has_the_protocols_shape(client: ApiClient, engine: ScriptedEngine) -> None:
    reply = ask(client, n=2, max_tokens=5).json()
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["model"] == "scripted" and reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    assert reply["usage"]["prompt_tokens"] == 2 and reply["usage"]["completion_tokens"] == 10
    assert reply["usage"]["total_tokens"] == 12 and reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 1
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert ask(client).json()["choices"][0]["finish_reason"] == "stop"


def test_fields_reach_the_engine(client: ApiClient, engine: ScriptedEngine) -> None:
    fields = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "n": 3, "stop": ["a", "b"], "seed": 11, "presence_penalty": 0.25,
        "frequency_penalty": -0.5, "logit_bias": {"65": -100}, "ignore_eos": True, "max_tokens": 9,
        "max_completion_tokens": 4, "overflow": "drop_oldest",
    }  # fmt: skip
    assert ask(client, **fields, something_new=1).status_code == 200
    asked = engine.asked[0]
    params = asked.params
    assert (params.temperature, params.top_p, params.top_k, params.n, params.stop) == (0.5, 0.9, 7, 3, ("a", "b"))
    assert (params.seed, params.presence_penalty, params.frequency_penalty) == (11, 0.25, -0.5)
    assert params.logit_bias == ((65, -100.0),) and params.ignore_eos and params.max_new_tokens == 4
    assert asked.overflow == "drop_oldest" and asked.raw["something_new"] == 1
    assert ask(client, script="Han", stop="x").status_code == 200
    assert engine.asked[1].params.constraint.kind == "script" and engine.asked[1].params.stop == ("x",)
    assert engine.asked[1].params.seed != ask(client) and engine.asked[1].params.top_k == 0


def test_null_means_left_out(client: ApiClient) -> None:
    names = "temperature top_p n stop seed logprobs top_logprobs tools tool_choice response_format stream_options script"
    assert ask(client, **dict.fromkeys(names.split())).status_code == 200


def test_content_parts_and_roles(client: ApiClient, engine: ScriptedEngine) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    ask(client, messages=[{"role": "developer", "content": "be kind"}, {"role": "user", "content": parts}])
    assert [(m.role, m.content) for m in engine.asked[0].messages] == [("system", "be kind"), ("user", "one two")]


def test_stream_puts_the_answer_together(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.answer = "héllo 🍎\u2028x"
    found = chunks(ask(client, stream=True, n=2, stream_options={"include_usage": True}))
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    texts = ["", ""]
    for chunk in found[:-1]:
        assert chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None and len(chunk["choices"]) == 1
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [engine.answer] * 2
    assert found[-1]["choices"] == [] and found[-1]["usage"]["total_tokens"] == 2 + 2 * len(engine.answer.encode())
    assert [c["choices"][0]["finish_reason"] for c in found if c["choices"]].count("stop") == 2


def test_usage_in_every_chunk_only_when_asked(client: ApiClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [c["usage"]["completion_tokens"] for c in chunks(ask(client, stream=True, stream_options=options))]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 11
    assert all("usage" not in chunk for chunk in chunks(ask(client, stream=True)))


def test_logprobs(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.answer = "aä"
    content = ask(client, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a", "bytes:\\xc3", "bytes:\\xa4"]
    assert content[0]["bytes"] == [97] and content[0]["logprob"] == -0.1 and content[1]["bytes"] == [0xC3]
    assert [t["token"] for t in content[0]["top_logprobs"]] == ["a", "bytes:\\xe4"]
    streamed = chunks(ask(client, logprobs=True, top_logprobs=2, stream=True))
    parts = [c["choices"][0]["logprobs"]["content"] for c in streamed if c["choices"][0]["logprobs"]]
    assert sum(parts, []) == content
    assert ask(client).json()["choices"][0]["logprobs"] is None


def test_tool_calls(client: ApiClient, engine: ScriptedEngine) -> None:
    one, two = '{"name": "add", "arguments": {"a": 1}}', '{"name": "add", "arguments": {}}'
    engine.answer = f"<tool_call>{one}</tool_call>\n<tool_call>{two}</tool_call>"
    choice = ask(client, tools=[ADD]).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"a": 1}, {}]
    assert len({call["id"] for call in calls}) == 2
    deltas = [c["choices"][0]["delta"] for c in chunks(ask(client, tools=[ADD], stream=True))]
    made = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert [one["index"] for one in made] == [0, 0, 1, 1]
    assert made[0]["function"]["name"] == "add" and made[0]["type"] == "function" and "name" not in made[1]["function"]
    assert engine.asked[0].params.constraint.kind == "lark"
    assert "<tools>" in engine.asked[0].messages[0].content


def test_tools_of_no_use_leave_the_answer_alone(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.answer = "a < b <tool_call>{broken</tool_call> <tool_"
    assert ask(client, tools=[ADD]).json()["choices"][0]["message"]["content"] == engine.answer
    assert ask(client, tools=[ADD], tool_choice="none").status_code == 200
    assert engine.asked[-1].params.constraint is None and len(engine.asked[-1].messages) == 1


def test_earlier_calls_are_shown_to_the_model(client: ApiClient, engine: ScriptedEngine) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "2"}
    turns = [*USER, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    assert ask(client, messages=turns).status_code == 200
    assert [(m.role, m.content.strip()) for m in engine.asked[0].messages[1:]] == [
        ("assistant", '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'),
        ("tool", "2"),
    ]


@pytest.mark.parametrize(
    "form, kind",
    [
        ({"response_format": {"type": "json_object"}}, "json_object"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}, "json_schema"),
        ({"structured_outputs": {"regex": "[0-9]+"}}, "regex"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "choice"),
        ({"structured_outputs": {"json": {"type": "object"}}}, "json_schema"),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "lark"),
    ],
)
def test_forms_become_constraints(client: ApiClient, engine: ScriptedEngine, form: dict[str, Any], kind: str) -> None:
    assert ask(client, **form).status_code == 200
    assert engine.asked[0].params.constraint.kind == kind


def test_failure_in_mid_stream_is_an_event(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.fail_after = (3, EngineGone("the model stopped"))
    found = chunks(ask(client, stream=True))
    assert found[-1]["error"]["code"] == "engine_unavailable"
    engine.fail_after = (3, RuntimeError("secret detail"))
    answer = ask(client, stream=True)
    assert chunks(answer)[-1]["error"]["type"] == "server_error" and "secret" not in answer.text
    assert engine.open == 0


CALCULATOR = {"type": "calculator"}
STEP = {"tool": "calculator", "expression": "3457 × 43216", "exact": True, "result": "149397712"}
PRODUCT = [{"role": "user", "content": "What is 3457 * 43216?"}]


def test_the_calculator_is_a_step_of_the_answer(client: ApiClient, engine: ScriptedEngine) -> None:
    asked = {"messages": PRODUCT, "tools": [CALCULATOR]}
    message = ask(client, **asked).json()["choices"][0]["message"]
    assert message["steps"] == [STEP] and message["role"] == "assistant"
    first = chunks(ask(client, **asked, stream=True, n=2))[:2]
    assert [chunk["choices"][0]["delta"]["steps"] for chunk in first] == [[STEP], [STEP]]
    request = engine.asked[0]
    assert "149397712" in request.messages[-1].content and request.messages[-1].content.startswith("What is 3457 * 43216?")
    assert request.params.constraint is not None and "149397712" in request.params.constraint.value


def test_the_calculator_is_only_used_where_it_is_named(client: ApiClient, engine: ScriptedEngine) -> None:
    for fields in ({}, {"tools": [ADD]}, {"tools": [CALCULATOR], "tool_choice": "none"}):
        assert "steps" not in ask(client, messages=PRODUCT, **fields).json()["choices"][0]["message"]
        assert "149397712" not in engine.asked[-1].messages[-1].content
    nothing = ask(client, tools=[CALCULATOR]).json()["choices"][0]["message"]
    assert nothing["steps"] == [] and engine.asked[-1].params.constraint is None
    divided = [{"role": "user", "content": "What is 1 / 0?"}]
    (step,) = ask(client, messages=divided, tools=[CALCULATOR]).json()["choices"][0]["message"]["steps"]
    assert step["error"] == "division by zero" and "result" not in step


def test_the_calculator_beside_functions_and_formats(client: ApiClient, engine: ScriptedEngine) -> None:
    both = [{"role": "user", "content": "What is 3457 * 43216, and how is the weather in Paris?"}]
    for messages, fields, wanted in (
        (PRODUCT, {"tools": [ADD, CALCULATOR]}, "149397712"),
        (both, {"tools": [ADD, CALCULATOR]}, "tool_call"),
        (PRODUCT, {"tools": [ADD, CALCULATOR], "tool_choice": "required"}, "tool_call"),
        (PRODUCT, {"tools": [CALCULATOR], "response_format": {"type": "json_object"}}, "json_object"),
    ):
        assert ask(client, messages=messages, **fields).json()["choices"][0]["message"]["steps"] == [STEP]
        asked = engine.asked[-1]
        assert wanted in str(asked.params.constraint) and "149397712" in asked.messages[-1].content
    for fields in ({"tools": [{"type": "abacus"}]}, {"tools": [CALCULATOR], "tool_choice": "required"}):
        assert ask(client, **fields).status_code == 400


def test_a_server_elsewhere_is_told_the_result_instead(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.takes_raw = True  # type: ignore[attr-defined]
    ask(client, messages=PRODUCT, tools=[CALCULATOR], parallel_tool_calls=False)
    raw = engine.asked[-1].raw
    assert "149397712" in raw["messages"][-1]["content"] and not {"tools", "parallel_tool_calls"} & set(raw)
    ask(client, messages=PRODUCT, tools=[ADD, CALCULATOR], tool_choice="auto")
    raw = engine.asked[-1].raw
    assert raw["tools"] == [ADD] and raw["tool_choice"] == "auto"
