"""Every refusal has the one shape, the right status, and names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_server import ApiClient, ScriptedEngine
from chatwright.errors import CheckpointError
from chatwright.serve.engine import EngineBusy, EngineGone

USER = [{"role": "user", "content": "hi"}]


def refused(response: Any, status: int) -> dict[str, Any]:
    """The error of a response; its shape and status checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"] and response.headers["x-request-id"]
    return dict(body["error"])


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}] * 257}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"300": 1}}, "logit_bias"),
        ({"logit_bias": {"3": 101}}, "logit_bias"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"min_p": 0.1}, "min_p"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"script": "Han", "response_format": {"type": "json_object"}}, "script"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"ignore_eos": True, "script": "Han"}, "ignore_eos"),
    ],
)
def test_bad_chat_fields(client: ApiClient, engine: ScriptedEngine, fields: dict[str, Any], param: str) -> None:
    error = refused(client.post("/v1/chat/completions", json={"messages": USER, **fields}), 400)
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param), error
    assert not engine.asked


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"best_of": 9}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_bad_completion_fields(client: ApiClient, fields: dict[str, Any], param: str) -> None:
    error = refused(client.post("/v1/completions", json={"prompt": "hi", **fields}), 400)
    assert (error["param"] or "").startswith(param), error


def test_neutral_values_of_refused_fields_pass(client: ApiClient) -> None:
    neutral = {"min_p": 0, "repetition_penalty": 1.0, "functions": [], "modalities": ["text"]}
    assert client.post("/v1/chat/completions", json={"messages": USER, **neutral}).status_code == 200
    assert client.post("/v1/completions", json={"prompt": "x", "suffix": ""}).status_code == 200


def test_bodies_that_are_no_json(client: ApiClient) -> None:
    for content in (b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"messages": [{"role": "user", "content": "\\ud800"}]}'):
        answer = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        refused(answer, 400)


@pytest.mark.parametrize("given", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_sent_as_json_is_told_how(given: str, client: ApiClient) -> None:
    body = json.dumps({"messages": USER}).encode()
    error = refused(client.post("/v1/chat/completions", content=body, headers={"content-type": given} if given else {}), 400)
    assert error["code"] == "invalid_content_type" and "content-type: application/json" in error["message"], error
    error = refused(client.post("/v1/chat/completions", json=[1]), 400)
    assert error["message"] == "the body must be a JSON object"


def test_unknown_paths_methods_models_keys(client: ApiClient) -> None:
    assert refused(client.get("/v1/nothing"), 404)["type"] == "invalid_request_error"
    refused(client.request("PUT", "/v1/chat/completions"), 405)
    error = refused(client.post("/v1/chat/completions", json={"messages": USER, "model": "gpt-9"}), 404)
    assert error["code"] == "model_not_found" and error["param"] == "model" and "scripted" in error["message"]
    refused(client.get("/v1/models/none"), 404)
    refused(client.get("/v1/models", headers={"authorization": ""}), 401)
    wrong = refused(client.get("/v1/models", headers={"authorization": "Bearer cw-wrong"}), 401)
    assert wrong["type"] == "invalid_request_error" and wrong["code"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_engine_errors(client: ApiClient, engine: ScriptedEngine, stream: bool, path: str) -> None:
    body = {"messages": USER, "prompt": "x", "input": "x"}
    del body["prompt" if path == "responses" else "input"]

    def post() -> Any:
        return client.post(f"/v1/{path}", json={**body, "stream": stream})

    engine.fail_before = EngineBusy(7.2)
    busy = post()
    assert refused(busy, 429)["code"] == "rate_limit_exceeded" and busy.headers["retry-after"] == "8"
    engine.fail_before = EngineGone("the model is being replaced")
    assert refused(post(), 503)["type"] == "server_error"
    engine.fail_before = CheckpointError("/root/secret/path")
    assert "secret" not in refused(post(), 500)["message"]
    engine.fail_before = RuntimeError("secret")
    assert "secret" not in refused(post(), 500)["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_too_long_a_prompt_has_the_code_clients_look_for(client: ApiClient, stream: bool) -> None:
    long = "x" * 5000
    for path, body, param in (
        ("chat/completions", {"messages": [{"role": "user", "content": long}]}, "messages"),
        ("completions", {"prompt": long}, "prompt"),
        ("completions", {"prompt": long, "echo": True, "logprobs": 1}, "prompt"),
        ("responses", {"input": long}, "input"),
    ):
        error = refused(client.post(f"/v1/{path}", json={**body, "stream": stream}), 400)
        assert error["code"] == "context_length_exceeded" and error["param"] == param


def test_not_ready(client: ApiClient, engine: ScriptedEngine) -> None:
    assert client.get("/ready").json() == {"ready": True, "models": {"scripted": True}, "unreachable": []}
    engine.ready = False
    answer = client.get("/ready", headers={"authorization": ""})
    assert refused(answer, 503)["code"] == "not_ready" and answer.headers["retry-after"] == "1"
    assert client.get("/health", headers={"authorization": ""}).json() == {"status": "ok"}
