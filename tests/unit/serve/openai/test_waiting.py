"""Streams that wait for their first token, models that are still loading, monitors, and pages of other origins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api_server import HEADERS, ApiClient, ScriptedEngine, app_of
from chatwright.errors import ConfigError
from chatwright.serve.engine import EngineBusy, Event, GenerationRequest
from chatwright.serve.openai import stream
from chatwright.serve.settings import ServeConfig

USER = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": USER}, "completions": {"prompt": "hi"}, "responses": {"input": "hi"},
}  # fmt: skip


class SlowEngine(ScriptedEngine):
    """An engine with a queue: nothing happens for a while."""

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        await asyncio.sleep(0.3)
        async for event in super().generate(request):
            yield event


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_waits_is_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(stream, "PING_S", 0.05)
    engine = SlowEngine()
    with app_of(tmp_path, engine) as app:
        client = ApiClient(app, HEADERS)
        answer = client.post(f"/v1/{path}", json={**BODIES[path], "stream": True})
        assert answer.status_code == 200 and answer.text.startswith(": ping\n\n: ping\n\n")
        whole = [line for line in answer.text.split("\n\n") if not line.startswith(": ")]
        assert whole and engine.open == 0 and engine.left == 0
        engine.fail_before = EngineBusy(3)  # the status is sent by then
        failed = client.post(f"/v1/{path}", json={**BODIES[path], "stream": True})
        assert failed.status_code == 200 and "rate_limit_exceeded" in failed.text
        client.close()


def test_a_stream_that_begins_at_once_has_no_comments_and_a_status(client: ApiClient, engine: ScriptedEngine) -> None:
    body = {"messages": USER, "stream": True}
    assert ": ping" not in client.post("/v1/chat/completions", json=body).text
    engine.fail_before = EngineBusy(3)
    assert client.post("/v1/chat/completions", json=body).status_code == 429


def test_not_ready_until_the_last_model_is_loaded(client: ApiClient) -> None:
    registry = client.app.state.registry
    registry.loading += ["second"]
    ready = client.get("/ready")
    assert ready.status_code == 503 and "second" in ready.json()["error"]["message"]
    early = client.post("/v1/chat/completions", json={"messages": USER, "model": "second"})
    assert early.status_code == 503 and early.json()["error"]["code"] == "model_loading" and early.headers["retry-after"]
    assert client.get("/v1/models/third").status_code == 404
    assert client.post("/v1/chat/completions", json={"messages": USER}).status_code == 200
    registry.add(ScriptedEngine(name="second"))
    assert client.get("/ready").status_code == 200
    assert client.post("/v1/chat/completions", json={"messages": USER, "model": "second"}).status_code == 200


def test_the_default_model_may_be_loading_too(tmp_path: Path) -> None:
    with app_of(tmp_path) as app:
        app.state.registry.loading += ["first"]
        client = ApiClient(app, HEADERS)
        assert client.post("/v1/chat/completions", json={"messages": USER}).json()["error"]["code"] == "model_loading"
        client.close()


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/docs", "/page.css", "/nothing.js", "/openapi.json"])
def test_monitors_may_ask_by_head(client: ApiClient, path: str) -> None:
    whole, head = client.get(path), client.request("HEAD", path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert client.request("HEAD", "/v1/models").status_code == 405


def test_pages_of_other_origins_may_call_the_api_when_allowed(tmp_path: Path) -> None:
    asks = {"origin": "https://app.example.org", "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,x-stainless-lang"}  # fmt: skip
    with app_of(tmp_path, ScriptedEngine(), cors_origin=("https://app.example.org",)) as app:
        client = ApiClient(app, {})
        allowed = client.request("OPTIONS", "/v1/chat/completions", headers=asks)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.org"
        assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
        answer = client.post("/v1/chat/completions", json={"messages": USER}, headers={**HEADERS, "origin": asks["origin"]})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == asks["origin"]
        assert "access-control-allow-credentials" not in answer.headers
        refused = client.post("/v1/chat/completions", json={"messages": USER}, headers={"origin": asks["origin"]})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == asks["origin"]
        for path, origin in (("/v1/models", "https://evil.example"), ("/api/session", asks["origin"])):
            other = client.request("OPTIONS", path, headers={**asks, "origin": origin})
            assert "access-control-allow-origin" not in other.headers and other.status_code >= 400
        client.close()


def test_other_origins_are_refused_by_default(client: ApiClient) -> None:
    asks = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    answer = client.request("OPTIONS", "/v1/chat/completions", headers=asks)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers
    for origin in ("app.example.org", "https://app.example.org/", "https://", "null"):
        with pytest.raises(ConfigError, match="cors_origin"):
            ServeConfig(cors_origin=(origin,))
