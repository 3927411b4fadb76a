"""A model on another OpenAI-compatible server: tested against our own server over real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_server import HEADERS, KEY, ApiClient, ScriptedEngine, app_of, running
from chatwright.errors import ConfigError
from chatwright.serve.engine import EngineBusy, EngineGone
from chatwright.serve.openai.errors import APIError
from chatwright.serve.run import open_engine
from chatwright.serve.settings import ServeConfig
from chatwright.serve.upstream import UpstreamEngine

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def behind() -> ScriptedEngine:
    """What answers in the end."""
    return ScriptedEngine(name="far", answer="Hé 🍎")


@pytest.fixture
def address(behind: ScriptedEngine, tmp_path: Path) -> Iterator[str]:
    with app_of(tmp_path / "far", behind) as app, running(app) as url:
        yield url


@pytest.fixture
def client(address: str, tmp_path: Path) -> Iterator[ApiClient]:
    """A client of a server that passes on to the other one."""
    with app_of(tmp_path / "near", UpstreamEngine.open("near", f"{address}/v1", key=KEY)) as app:
        client = ApiClient(app, HEADERS)
        yield client
        client._runner.run(app.state.services.registry.get().drain(1))
        client.close()


def test_answers_come_through_whole_and_streamed(client: ApiClient, behind: ScriptedEngine) -> None:
    body = {**CHAT, "n": 2, "seed": 5, "stop": ["zz"], "top_k": 3, "user": "somebody", "secret_field": 1}
    whole = client.post("/v1/chat/completions", json=body).json()
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["Hé 🍎"] * 2
    assert whole["model"] == "near" and whole["usage"]["prompt_tokens"] == 2 and whole["usage"]["completion_tokens"] == 16
    asked = behind.asked[0]
    assert (asked.params.n, asked.params.seed, asked.params.stop, asked.params.top_k) == (2, 5, ("zz",), 3)
    assert "user" not in asked.raw and "secret_field" not in asked.raw
    text = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
    deltas = [json.loads(event[6:]) for event in text.split("\n\n") if event.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in deltas) == "Hé 🍎"
    completion = client.post("/v1/completions", json={"prompt": "x", "echo": True}).json()
    assert completion["choices"][0]["text"] == "xHé 🍎"


def test_logprobs_come_through_bit_for_bit(client: ApiClient, address: str) -> None:
    for path, body in (
        ("chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
        ("completions", {"prompt": "x", "logprobs": 2}),
    ):
        direct = httpx.post(f"{address}/v1/{path}", json=body, headers=HEADERS).json()["choices"][0]["logprobs"]
        assert client.post(f"/v1/{path}", json=body).json()["choices"][0]["logprobs"] == direct


def test_tools_and_formats_are_the_other_servers_business(client: ApiClient, behind: ScriptedEngine) -> None:
    behind.answer = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    choice = client.post("/v1/chat/completions", json={**CHAT, "tools": [tool]}).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert "<tools>" in behind.asked[0].messages[0].content  # written there, once
    assert behind.asked[0].messages[0].content.count("<tools>") == 2  # its mention and the list itself
    behind.answer = "{}"
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert client.post("/v1/chat/completions", json={**CHAT, "response_format": schema}).status_code == 200
    assert behind.asked[-1].params.constraint.kind == "json_schema"
    assert client.post("/v1/completions", json={"prompt": "x", "structured_outputs": {"regex": "a+"}}).status_code == 200
    assert behind.asked[-1].params.constraint.kind == "regex"


def test_embeddings(client: ApiClient) -> None:
    found = client.post("/v1/embeddings", json={"input": ["a", "bcd"], "dimensions": 2}).json()
    assert [row["embedding"] for row in found["data"]] == [[1 / 3, 0.5]] * 2 and found["usage"]["total_tokens"] == 4


def test_what_needs_the_model_here_is_refused(client: ApiClient) -> None:
    for path, body in (
        ("/v1/completions", {"prompt": [1, 2], "echo": True, "logprobs": 1}),
        ("/v1/completions", {"prompt": "x", "echo": True, "logprobs": 1}),
        ("/v1/chat/completions", {**CHAT, "script": "Han"}),
        ("/tokenize", {"prompt": "x"}),
        ("/detokenize", {"tokens": [1]}),
    ):
        assert client.post(path, json=body).status_code == 400, path


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_told_in_our_words(client: ApiClient, behind: ScriptedEngine, stream: bool) -> None:
    def post(**fields: Any) -> Any:
        return client.post("/v1/chat/completions", json={**CHAT, "stream": stream, **fields})

    behind.fail_before = EngineBusy(9)
    busy = post()
    assert busy.status_code == 429 and busy.headers["retry-after"] == "9"
    behind.fail_before = EngineGone("its disk at /secret burns")
    gone = post()
    assert gone.status_code == 503 and "secret" not in gone.text
    behind.fail_before = None
    behind.context_length = 1
    assert post().json()["error"]["code"] == "context_length_exceeded"
    behind.context_length, behind.fail_after = 2000, (2, RuntimeError("x"))
    broken = post()
    assert "engine_unavailable" in broken.text and broken.status_code == (200 if stream else 503)
    assert KEY not in busy.text + gone.text + broken.text


def test_leaving_early_ends_it_there_too(address: str, behind: ScriptedEngine) -> None:
    behind.answer, behind.pause_s = "x" * 600, 0.05
    engine = UpstreamEngine("near", f"{address}/v1", model="far", key=KEY)
    from chatwright.generation.api import SamplingParams
    from chatwright.records import user
    from chatwright.serve.engine import Delta, GenerationRequest

    async def leave() -> None:
        params = SamplingParams(max_new_tokens=600)
        request = GenerationRequest(request_id="r", owner="o", messages=user("hi"), params=params)
        events = engine.generate(request)
        async for event in events:
            if isinstance(event, Delta):
                break
        assert behind.open == 1
        await events.aclose()
        began = time.monotonic()
        while behind.open:
            assert time.monotonic() - began < 30
            await asyncio.sleep(0.01)
        await engine.drain(1)
        with pytest.raises(EngineGone):
            await anext(engine.generate(request))

    asyncio.run(leave())


def test_deadline_ends_a_slow_answer(address: str, behind: ScriptedEngine) -> None:
    behind.answer, behind.pause_s = "x" * 600, 0.05
    engine = UpstreamEngine("near", f"{address}/v1", model="far", key=KEY)
    from chatwright.generation.api import SamplingParams
    from chatwright.serve.engine import Finished, GenerationRequest

    async def wait() -> list[Any]:
        params = SamplingParams(max_new_tokens=600)
        request = GenerationRequest(request_id="r", owner="o", prompt="hi", params=params, deadline_s=1.0)
        events = [event async for event in engine.generate(request)]
        await engine.drain(1)
        return events

    *_, last = asyncio.run(wait())
    assert isinstance(last, Finished) and last.reason == "deadline" and 0 <= last.completion_tokens < 100


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no list of models"):
        UpstreamEngine.open("x", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="not an address"):
        UpstreamEngine.open("x", "ftp://there/v1")
    with app_of(tmp_path, UpstreamEngine("x", "http://127.0.0.1:9/v1")) as app:
        client = ApiClient(app, HEADERS)
        answer = client.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "engine_unavailable"
        client._runner.run(app.state.services.registry.get().drain(0))
        client.close()


def test_a_server_that_does_not_follow_the_protocol(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=answers.pop(0))

    engine = UpstreamEngine("x", "http://there/v1", key="cw-very-secret")
    asyncio.run(engine._client.aclose())
    engine._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    answers = [f"data: {it}\n\n" for it in ("nonsense", '{"choices": [{"index": 7}]}', '{"choices": 3}', "[DONE]", "3")]
    with app_of(tmp_path, engine) as app:
        client = ApiClient(app, HEADERS)
        while answers:
            reply = client.post("/v1/chat/completions", json=CHAT)
            assert reply.status_code == 503 and "secret" not in reply.text
        client._runner.run(engine.drain(0))
        client.close()


def test_refusal_without_a_body_has_a_message() -> None:
    engine = UpstreamEngine("x", "http://there/v1")
    error = engine._refusal(httpx.Response(422, text="no json"))
    assert isinstance(error, APIError) and error.status == 400 and "refused" in error.message
    assert isinstance(engine._refusal(httpx.Response(401)), EngineGone)
    asyncio.run(engine.drain(0))


def models_app(*names: str, status: int = 200) -> Any:
    """A server on loopback whose /v1/models lists `names`; it keeps the headers of requests."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            raw = json.dumps({"data": [{"id": name} for name in names]}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/v1", seen


def test_one_of_several_models_is_never_chosen_silently() -> None:
    server, url, _ = models_app("small", "org/large")
    try:
        assert UpstreamEngine.open("small", url)._model == "small"
        assert UpstreamEngine.open("big", f"org/large@{url}")._model == "org/large"
        with pytest.raises(ConfigError, match=r"does not serve 'big' but small, org/large; write --upstream big=MODEL@"):
            UpstreamEngine.open("big", url)
        with pytest.raises(ConfigError, match="does not serve 'gone'"):
            UpstreamEngine.open("small", f"gone@{url}")
    finally:
        server.shutdown()
        server.server_close()


def test_the_only_model_of_a_server_needs_no_name() -> None:
    server, url, _ = models_app("/models/a.gguf")
    try:
        assert UpstreamEngine.open("chat", url)._model == "/models/a.gguf"
    finally:
        server.shutdown()
        server.server_close()


def test_each_upstream_gets_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATWRIGHT_UPSTREAM_API_KEY", "sk-shared")
    monkeypatch.setenv("CHATWRIGHT_UPSTREAM_API_KEY_PAID", "sk-paid")
    server, url, seen = models_app("m")
    try:
        both = ServeConfig(upstream=(f"paid={url}", f"inner={url}"))
        for entry in both.upstream:
            open_engine(both, entry, True)
        open_engine(ServeConfig(upstream=(f"inner={url}",)), f"inner={url}", True)
        assert [headers.get("authorization") for headers in seen] == ["Bearer sk-paid", None, "Bearer sk-shared"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_refused_key_is_named() -> None:
    server, url, _ = models_app(status=401)
    try:
        with pytest.raises(ConfigError, match="status 401; set CHATWRIGHT_UPSTREAM_API_KEY_FAR"):
            UpstreamEngine.open("far", url)
        with pytest.raises(ConfigError, match="status 401; check CHATWRIGHT_UPSTREAM_API_KEY_FAR"):
            UpstreamEngine.open("far", url, key="sk-wrong")
    finally:
        server.shutdown()
        server.server_close()


def test_what_goes_on_is_what_was_read(client: ApiClient, behind: ScriptedEngine) -> None:
    """A filter reads one text of a part; the other server must not get another one."""
    parts = [{"type": "text", "text": "", "refusal": "unread"}, {"type": "text", "text": "read", "refusal": "unread"}]
    messages = [
        {"role": "developer", "content": "be kind", "reasoning_content": "unread", "extra": ["unread"]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}", "more": "unread"}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "user", "content": parts[1:]},
    ]  # fmt: skip
    sent: list[Any] = []
    client._runner.run(asyncio.sleep(0))
    engine = client.app.state.services.registry.get()
    plain = engine._request
    engine._request = lambda request: sent.append(plain(request)[1]) or plain(request)
    assert client.post("/v1/chat/completions", json={"messages": messages}).status_code == 200
    assert "unread" not in json.dumps(sent) and len(sent) == 1
    assert [row["content"] for row in sent[0]["messages"] if "content" in row] == ["be kind", "3", "read"]
    assert sent[0]["messages"][1]["tool_calls"][0]["function"] == {"name": "add", "arguments": "{}"}


def test_reasoning_is_passed_on_whole_and_streamed(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        deltas = [{"reasoning_content": "Let me "}, {"reasoning": "think."}, {"content": "Four."}]
        chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        return httpx.Response(200, text="".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks))

    engine = UpstreamEngine("x", "http://there/v1")
    asyncio.run(engine._client.aclose())
    engine._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    with app_of(tmp_path, engine) as app:
        client = ApiClient(app, HEADERS)
        message = client.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Let me think.", "Four.")
        text = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
        client._runner.run(engine.drain(0))
        client.close()
    deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in text.split("\n\n") if event.startswith("data: {")]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me think."
    assert "".join(delta.get("content", "") for delta in deltas) == "Four."


def thinking_app(tmp_path: Path, deltas: list[dict[str, str]], usage: dict[str, object]) -> Any:
    """A server whose upstream answers with these deltas, and the bodies that the upstream gets."""
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        chunks: list[dict[str, object]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
        return httpx.Response(200, text="".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks))

    engine = UpstreamEngine("x", "http://there/v1")
    asyncio.run(engine._client.aclose())
    engine._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return app_of(tmp_path, engine), engine, asked


@pytest.mark.parametrize("late", [False, True])
def test_reasoning_is_an_item_of_responses_and_counted(tmp_path: Path, late: bool) -> None:
    deltas = [{"reasoning_content": "Let me "}, {"reasoning": "think."}, {"content": "Fo"}, {"content": "ur."}]
    if late:
        deltas.insert(3, {"reasoning": "Sure?"})
    usage = {"prompt_tokens": 3, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    made, engine, asked = thinking_app(tmp_path, deltas, usage)
    with made as app:
        client = ApiClient(app, HEADERS)
        whole = client.post("/v1/responses", json={"model": "x", "input": "2+2"}).json()
        streamed = client.post("/v1/responses", json={"model": "x", "input": "2+2", "stream": True}).text
        chat = client.post("/v1/chat/completions", json=CHAT).json()
        first, second = ({"role": "user", "content": text} for text in ("2+2", "?"))
        again = {"model": "x", "input": [first, *whole["output"], second]}
        assert client.post("/v1/responses", json=again).status_code == 200
        client._runner.run(engine.drain(0))
        client.close()
    assert [message["content"] for message in asked[-1]["messages"]] == ["2+2", "Four.", "?"]
    assert whole["usage"]["output_tokens_details"] == {"reasoning_tokens": 7} and whole["usage"]["output_tokens"] == 9
    assert chat["usage"]["completion_tokens_details"]["reasoning_tokens"] == 7
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message"]
    assert whole["output"][0]["content"] == [{"type": "reasoning_text", "text": "Let me think." + "Sure?" * late}]
    events = [json.loads(block.split("data: ", 1)[1]) for block in streamed.split("\n\n") if block]
    last, kinds = events[-1]["response"], [event["type"].removeprefix("response.") for event in events]
    assert kinds[2:8] == [
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done",
    ]  # fmt: skip
    added = {event["output_index"]: event["item"] for event in events if event["type"].endswith("output_item.added")}
    done = {event["output_index"]: event["item"] for event in events if event["type"].endswith("output_item.done")}
    assert [done[index] for index in sorted(done)] == last["output"]
    assert {index: item["id"] for index, item in added.items()} == {index: item["id"] for index, item in done.items()}
    assert [item["type"] for item in last["output"]] == ["reasoning", "message", *["reasoning"] * late]
    assert {e["output_index"] for e in events if e["type"].startswith("response.output_text")} == {1}
    assert "".join(e["delta"] for e in events if e["type"] == "response.reasoning_text.delta") == "Let me think."


def test_reasoning_alone_leaves_an_empty_message(tmp_path: Path) -> None:
    made, engine, _ = thinking_app(tmp_path, [{"reasoning": "Hm."}], {"completion_tokens_details": {"reasoning_tokens": 99}})
    with made as app:
        client = ApiClient(app, HEADERS)
        text = client.post("/v1/responses", json={"model": "x", "input": "2+2", "stream": True}).text
        client._runner.run(engine.drain(0))
        client.close()
    events = [json.loads(block.split("data: ", 1)[1]) for block in text.split("\n\n") if block]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"] and [item["type"] for item in done] == ["reasoning", "message"]
    assert events[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] <= 1  # never more than all


def test_an_upstream_that_is_down_refuses_only_its_own_requests_until_it_is_there(
    tmp_path: Path, behind: ScriptedEngine
) -> None:  # fmt: skip
    down = UpstreamEngine.open_or_wait("down", "far@http://127.0.0.1:9/v1", key=KEY)
    assert not down.ready and down.trouble == "ConnectError" and not down.reconnect()
    here = ScriptedEngine(name="here", answer="yes")
    with app_of(tmp_path / "near", down, here) as app:
        client = ApiClient(app, HEADERS)
        state = client.get("/ready")
        assert state.status_code == 200 and state.json()["unreachable"] == ["down"] and state.json()["models"]["here"]
        refused = client.post("/v1/chat/completions", json={**CHAT, "model": "down"})
        assert refused.status_code == 503 and "cannot be reached (ConnectError)" in refused.text
        assert client.post("/v1/chat/completions", json={**CHAT, "model": "here"}).status_code == 200
        with app_of(tmp_path / "far", behind) as far, running(far) as url:
            down._url = f"{url}/v1"
            assert down.reconnect() and down.ready
            assert client.post("/v1/chat/completions", json={**CHAT, "model": "down"}).status_code == 200
            assert client.get("/ready").json()["unreachable"] == []
        client._runner.run(down.drain(1))
        client.close()


@pytest.mark.parametrize(("names", "status", "trouble"), [
    ("m", 401, None), ("m", 404, None), ("ab", 200, None), ("m", 503, "status 503"), ("m", 200, ""),
])  # fmt: skip
def test_only_failures_that_may_pass_are_waited_for(names: str, status: int, trouble: str | None) -> None:
    server, url, _ = models_app(*names, status=status)
    try:
        if trouble is None:
            with pytest.raises(ConfigError, match=f"{status}|does not serve"):
                UpstreamEngine.open_or_wait("m", url)
        else:
            assert UpstreamEngine.open_or_wait("m", url).trouble == trouble
    finally:
        server.shutdown()
        server.server_close()
