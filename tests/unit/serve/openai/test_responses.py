"""The Responses API: whole, streamed, functions, items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_server import ApiClient, ScriptedEngine
from chatwright.serve.engine import EngineGone

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}


def events(response: Any) -> list[dict[str, Any]]:
    found = []
    for block in filter(None, response.text.split("\n\n")):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_whole(client: ApiClient, engine: ScriptedEngine) -> None:
    fields = {"input": "hi", "instructions": "be kind", "max_output_tokens": 5, "store": True, "temperature": 0}
    reply = client.post("/v1/responses", json=fields).json()
    assert reply["status"] == "incomplete" and reply["incomplete_details"] == {"reason": "max_output_tokens"}
    assert reply["output"][0]["content"][0]["text"] == "Hello" and reply["store"] is False
    assert reply["usage"]["output_tokens"] == 5 and reply["usage"]["input_tokens"] == 9
    assert [(m.role, m.content) for m in engine.asked[0].messages] == [("system", "be kind"), ("user", "hi")]
    assert client.post("/v1/responses", json={"input": "hi"}).json()["status"] == "completed"


def test_items_become_messages(client: ApiClient, engine: ScriptedEngine) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "2+2"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
    ]
    assert client.post("/v1/responses", json={"input": items}).status_code == 200
    assert [m.role for m in engine.asked[0].messages] == ["user", "assistant", "tool"]


def test_stream(client: ApiClient) -> None:
    found = events(client.post("/v1/responses", json={"input": "hi", "stream": True}))
    kinds = [event["type"].removeprefix("response.") for event in found]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert text == "Hello there" == found[-1]["response"]["output"][0]["content"][0]["text"]
    assert found[0]["response"]["status"] == "in_progress" and found[-1]["response"]["usage"]["output_tokens"] == 11


def test_function_calls(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.answer = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    fields = {"input": "hi", "tools": [ADD], "tool_choice": {"type": "function", "name": "add"}}
    (item,) = client.post("/v1/responses", json=fields).json()["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "add", '{"a": 1}')
    found = events(client.post("/v1/responses", json={**fields, "stream": True}))
    assert [event["type"] for event in found][2:-1] == [
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
    ]  # fmt: skip


def test_the_calculator_is_an_item_of_its_own(client: ApiClient, engine: ScriptedEngine) -> None:
    fields = {"input": "What is 3457 * 43216?", "tools": [{"type": "calculator"}]}
    step, message = client.post("/v1/responses", json=fields).json()["output"]
    assert (step["type"], step["expression"], step["result"]) == ("calculator_call", "3457 × 43216", "149397712")
    assert message["content"][0]["text"] == "Hello there"
    found = events(client.post("/v1/responses", json={**fields, "stream": True}))
    places = [(e["type"].rpartition(".")[2], e["output_index"], e["item"]["type"]) for e in found if "item" in e]
    assert places == [
        ("added", 0, "calculator_call"), ("done", 0, "calculator_call"), ("added", 1, "message"), ("done", 1, "message"),
    ]  # fmt: skip
    assert {e["output_index"] for e in found if "delta" in e} == {1}
    assert [item["type"] for item in found[-1]["response"]["output"]] == ["calculator_call", "message"]
    again = [{"role": "user", "content": "hi"}, {**step}, {"role": "user", "content": "and?"}]
    assert client.post("/v1/responses", json={"input": again}).status_code == 200


def test_refused(client: ApiClient) -> None:
    for fields, param in (
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema"}}}, "response_format"),
    ):
        answer = client.post("/v1/responses", json={"input": "hi", **fields})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_what_has_no_effect_is_refused_and_truncation_is_done(client: ApiClient, engine: ScriptedEngine) -> None:
    for fields in ({"top_logprobs": 3}, {"include": ["message.output_text.logprobs"]}):
        answer = client.post("/v1/responses", json={"input": "hi", **fields})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == next(iter(fields))
    neutral = {"top_logprobs": 0, "include": ["reasoning.encrypted_content"]}
    assert client.post("/v1/responses", json={"input": "hi", **neutral}).status_code == 200
    assert engine.asked[-1].overflow == "error"
    assert client.post("/v1/responses", json={"input": "hi", "truncation": "auto"}).json()["truncation"] == "auto"
    assert engine.asked[-1].overflow == "drop_oldest"


def test_a_filtered_answer_is_incomplete(client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatwright.serve.openai.chat.finish_reason", lambda event: "content_filter")
    reply = client.post("/v1/responses", json={"input": "hi"}).json()
    assert reply["status"] == "incomplete" and reply["incomplete_details"] == {"reason": "content_filter"}
    last = events(client.post("/v1/responses", json={"input": "hi", "stream": True}))[-1]
    assert last["type"] == "response.incomplete" and last["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_in_the_stream_is_told_in_events_of_this_protocol(client: ApiClient, engine: ScriptedEngine) -> None:
    engine.fail_after = (3, EngineGone("the model stopped"))
    error, failed = events(client.post("/v1/responses", json={"input": "hi", "stream": True}))[-2:]
    assert error["type"] == "error" and error["code"] == "engine_unavailable" and "stopped" in error["message"]
    assert failed["type"] == "response.failed" and failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "engine_unavailable", "message": error["message"]}
