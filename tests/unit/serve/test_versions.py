"""Answers, thumbs, votes and usage name the version of the model, and blind answers do not tell it before the vote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

import api_server
from api_server import HEADERS, KEY, ApiClient, app_of, running
from chat_server import Elsewhere, ScriptedEngine, events_of, on_loop, server_of, text_of, until
from chatwright.serve.auth import routes_of
from chatwright.serve.chat.tables import FeedbackEvent
from chatwright.serve.upstream import UpstreamEngine
from workspaces import KINDS, admin_of

Client = httpx.AsyncClient
QUESTION = {"messages": [{"role": "user", "content": "hi"}]}


def play(app: FastAPI, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with on_loop(app, admin_of(app)) as client:
            await scenario(client)

    asyncio.run(whole())


def promote(app: FastAPI, name: str, version: str, **options: Any) -> None:
    """Put another model behind a name, as a promotion does."""
    new = ScriptedEngine(name, **options)
    new.version = version
    app.state.services.registry.swap(name, new)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_names_the_model_that_wrote_it_through_a_swap(kind: str, tmp_path: Path) -> None:
    old = ScriptedEngine("alpha", pause_at=3)

    async def scenario(client: Client) -> None:
        chat = (await client.post("/api/conversations", json={})).json()["id"]
        url = f"/api/conversations/{chat}"
        page = asyncio.create_task(client.post(f"{url}/messages", json={"content": "one"}))
        await until(lambda: old.running == 1)
        promote(app, "alpha", "second")
        old.gate.set()
        context = next(data for name, data in events_of((await page).text) if name == "context")
        assert context["model_version"] == "version-of-alpha"
        first = (await client.get(url)).json()["active_leaf"]
        for _ in range(2):
            leaf = (await client.get(url)).json()["active_leaf"]
            await client.post(f"{url}/messages", json={"content": "two", "parent_id": leaf})
        answers = [m for m in (await client.get(url)).json()["messages"] if m["role"] == "assistant"]
        assert [m["model"] for m in answers] == ["alpha"] * 3 and answers[0]["id"] == first
        assert [m["model_version"] for m in answers] == ["version-of-alpha", "second", "second"]
        for answer in answers[:2]:
            assert (await client.post(f"/api/messages/{answer['id']}/feedback", json={"vote": "up"})).status_code == 200
        with app.state.services.workspace.reading() as session:
            thumbs = session.scalars(select(FeedbackEvent).order_by(FeedbackEvent.id)).all()
            assert [thumb.model_version for thumb in thumbs] == ["version-of-alpha", "second"]
        used = (await client.get("/api/usage")).json()
        assert {(r["model"], r["model_version"]): r["requests"] for r in used} == {
            ("alpha", "version-of-alpha"): 1, ("alpha", "second"): 2,
        }  # fmt: skip
        assert [m["version"] for m in (await client.get("/api/models")).json()] == ["second"]
        exported = (await client.get(f"{url}/export")).json()
        assert exported["messages"][1]["model_version"] == "version-of-alpha"
        link = (await client.post(f"{url}/share")).json()["token"]
        shared = (await client.get(f"/api/shares/{link}")).json()["messages"]
        assert [m["model_version"] for m in shared if m["role"] == "assistant"] == ["version-of-alpha", "second", "second"]

    with server_of(tmp_path, old, kind=kind) as app:
        play(app, scenario)


def test_the_board_has_a_line_for_each_version(tmp_path: Path) -> None:
    async def vote(client: Client, prompt: str, wanted: str) -> int:
        events = events_of((await client.post("/api/arena/battles", json={"prompt": prompt})).text)
        side = next(side for side in "ab" if text_of(events, side=side).startswith(wanted))
        url = f"/api/arena/battles/{events[0][1]['battle_id']}/vote"
        return (await client.post(url, json={"vote": side})).status_code

    async def scenario(client: Client) -> None:
        await client.put("/api/consent", json={"training_consent": True})
        assert [await vote(client, f"question {n}", "B") for n in range(3)] == [200] * 3
        assert await vote(client, "question 0", "B") == 409  # the same question to the same versions
        promote(app, "alpha", "second", answer="A, but better")
        assert [await vote(client, f"question {n}", "A") for n in range(2)] == [200] * 2  # counts: another version
        assert await vote(client, "question 0", "A") == 409
        board = (await client.get("/api/arena/board")).json()
        lines = {(line["name"], line["model_version"]): (line["num_votes"], line["win_rate"]) for line in board["lines"]}
        assert lines == {
            ("alpha", "version-of-alpha"): (3, 0), ("alpha", "second"): (2, 1), ("beta", "version-of-beta"): (5, 0.6),
        }  # fmt: skip
        mixed = (await client.get("/api/arena/board?by_version=false")).json()
        lines = {line["name"]: (line["model_version"], line["num_versions"], line["num_votes"]) for line in mixed["lines"]}
        assert lines == {"alpha": (None, 2, 5), "beta": ("version-of-beta", 1, 5)}
        assert board["by_version"] and not mixed["by_version"]
        rows = [json.loads(line) for line in (await client.get("/api/arena/export")).text.splitlines()]
        pairs = [dict(zip(row["models"], row["model_versions"], strict=True)) for row in rows]
        assert [pair["alpha"] for pair in pairs] == ["version-of-alpha"] * 3 + ["second"] * 2

    with server_of(tmp_path, ScriptedEngine("alpha", answer="A"), ScriptedEngine("beta", answer="B")) as app:
        play(app, scenario)


async def readable(app: FastAPI, client: Client, battle: str) -> dict[str, str]:
    """Path -> headers and body of everything that can be read without an id, and of the battle."""
    found = {}
    for path in sorted({path for path, route in routes_of(app.routes) if "GET" in getattr(route, "methods", ())}):
        path = path.replace("{battle_id}", battle)
        if "{" not in path:
            reply = await client.get(path)
            found[path] = f"{dict(reply.headers)} {reply.text}"
    return found


@pytest.mark.parametrize("fails", [False, True])
def test_no_route_tells_the_versions_of_a_battle_before_the_vote(fails: bool, tmp_path: Path) -> None:
    engines = [Elsewhere(f"m{n}", f"fp_of_{n}", answer=f"answer {n}") for n in range(2)]

    async def scenario(client: Client) -> None:
        stream = await client.post("/api/arena/battles", json={"prompt": "question"})
        assert "fp_of" not in f"{stream.headers} {stream.text}"
        battle = events_of(stream.text)[0][1]["battle_id"]
        engines[0].fail = "fp_of_0 crashed" if fails else ""
        after = await client.post("/api/arena/battles", json={"prompt": "another"})
        assert "fp_of" not in f"{after.headers} {after.text}"
        seen = await readable(app, client, battle)
        assert {"/api/usage", "/api/models", "/v1/models", f"/api/arena/battles/{battle}"} <= set(seen) and len(seen) > 30
        assert [path for path, text in seen.items() if "fp_of" in text] == []
        told = (await client.post(f"/api/arena/battles/{battle}/vote", json={"vote": "a"})).json()
        assert {(told[side]["name"], told[side]["model_version"]) for side in "ab"} == {("m0", "fp_of_0"), ("m1", "fp_of_1")}
        used = (await client.get("/api/usage")).json()
        assert {(row["model"], row["model_version"]) for row in used} == {("m0", "fp_of_0"), ("m1", "fp_of_1")}

    with server_of(tmp_path, *engines) as app:
        play(app, scenario)


def fingerprints(reply: httpx.Response) -> list[Any]:
    """`system_fingerprint` of a reply, or of every chunk of a stream."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return [reply.json()["system_fingerprint"]]
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    return [chunk.get("response", chunk)["system_fingerprint"] for chunk in chunks if "delta" not in chunk]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", QUESTION),
        ("completions", {"prompt": "x"}),
        ("completions", {"prompt": "x", "echo": True, "logprobs": 1, "max_tokens": 0}),
    ],
)  # fmt: skip
def test_replies_carry_the_version_as_their_fingerprint(
    path: str, body: dict[str, Any], stream: bool, tmp_path: Path
) -> None:  # fmt: skip
    with app_of(tmp_path, api_server.ScriptedEngine(version="content-hash")) as app:
        client = ApiClient(app, HEADERS)
        reply = client.post(f"/v1/{path}", json={**body, "stream": stream})
        assert reply.status_code == 200 and set(fingerprints(reply)) == {"content-hash"}, reply.text
        assert client.get("/v1/models").json()["data"][0]["version"] == "content-hash"
        client.close()


def test_responses_and_embeddings_name_the_version_too(tmp_path: Path) -> None:
    with app_of(tmp_path, api_server.ScriptedEngine(version="content-hash")) as app:
        client = ApiClient(app, HEADERS)
        assert fingerprints(client.post("/v1/responses", json={"input": "hi"})) == ["content-hash"]
        assert client.post("/v1/embeddings", json={"input": "hi"}).status_code == 200
        admin = admin_of(app)
        used = admin.get("/api/usage?everyone=true").json()
        assert [(row["model_version"], row["requests"]) for row in used] == [("content-hash", 2)]
        client.close()


def test_the_fingerprint_of_a_server_elsewhere_comes_through(tmp_path: Path) -> None:
    behind = api_server.ScriptedEngine(name="far", version="fp_1")
    with app_of(tmp_path / "far", behind) as far, running(far) as url:
        engine = UpstreamEngine.open("near", f"{url}/v1", key=KEY)
        with app_of(tmp_path / "near", engine) as app:
            client = ApiClient(app, HEADERS)
            assert fingerprints(client.post("/v1/chat/completions", json=QUESTION)) == ["fp_1"]
            behind.version = "fp_2"
            streamed = client.post("/v1/chat/completions", json={**QUESTION, "stream": True})
            role, *rest = fingerprints(streamed)
            assert set(rest) == {"fp_2"} and role in (None, "fp_2")  # the first chunk may come before the other server's
            behind.version = ""
            assert fingerprints(client.post("/v1/chat/completions", json=QUESTION)) == [None]
            assert client.get("/v1/models").json()["data"][0]["version"] is None  # it would tell who answered blindly
            admin = admin_of(app)
            used = admin.get("/api/usage?everyone=true").json()
            assert {row["model_version"]: row["requests"] for row in used} == {"": 1, "fp_1": 1, "fp_2": 1}
            client._runner.run(engine.drain(1))
            client.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(None, None), (7, None), (["x"], None), ("", None), ("a\x00b\nc", "abc"), ("v" * 500, "v" * 128), (" fp ", "fp")],
)
def test_odd_fingerprints_of_a_server_elsewhere_are_kept_short_and_printable(sent: Any, kept: Any, tmp_path: Path) -> None:
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
    text = f"data: {json.dumps({'choices': [choice], 'system_fingerprint': sent})}\n\ndata: [DONE]\n\n"
    engine = UpstreamEngine("x", "http://there/v1", key="")
    asyncio.run(engine._client.aclose())
    engine._client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=text)))
    with app_of(tmp_path, engine) as app:
        client = ApiClient(app, HEADERS)
        reply = client.post("/v1/chat/completions", json=QUESTION)
        assert reply.status_code == 200 and fingerprints(reply) == [kept], reply.text
        client._runner.run(engine.drain(0))
        client.close()
