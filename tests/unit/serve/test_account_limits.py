"""Limits of an account hold in the chat, the arena and the desk's drafts as they do for its keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from chat_server import ScriptedEngine, on_loop, server_of
from chatwright.serve.auth import routes_of, rule_of
from workspaces import admin_of, member_of


def play(app: FastAPI, client: Any, *requests: tuple[str, dict[str, Any]]) -> list[int]:
    """Statuses of requests, one after another."""

    async def run() -> list[int]:
        async with on_loop(app, client) as browser:
            return [(await browser.post(path, json=body)).status_code for path, body in requests]

    return asyncio.run(run())


def test_the_chat_and_the_arena_count(tmp_path: Path) -> None:
    with server_of(tmp_path, ScriptedEngine("alpha"), ScriptedEngine("beta")) as app:
        admin = admin_of(app)
        ada = member_of(app, admin, "ada")
        user = ada.get("/api/session").json()["user_id"]
        admin.patch(f"/api/users/{user}", json={"requests_per_minute": 2})
        chat = ada.post("/api/conversations", json={}).json()["id"]
        message = (f"/api/conversations/{chat}/messages", {"content": "hi"})
        battle = ("/api/arena/battles", {"prompt": "hi"})
        assert play(app, ada, message, battle, message, battle) == [200, 200, 429, 429]
        assert ada.get(f"/api/conversations/{chat}").status_code == 200  # reading is free
        key = ada.post("/api/keys", json={"name": "k"}).json()["key"]
        answer = ada.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]},
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip
        assert answer.status_code == 429  # the same account
        admin.patch(f"/api/users/{user}", json={"requests_per_minute": 100, "tokens_total": 1})
        assert play(app, ada, message) == [429]
        assert play(app, admin, ("/api/arena/battles", {"prompt": "hi"})) == [200]


def test_every_route_that_makes_models_answer_has_limits(tmp_path: Path) -> None:
    """A new route that streams answers must be limited: found by its response, not by a list."""
    with server_of(tmp_path, ScriptedEngine("alpha")) as app:
        streams = {
            path: route
            for path, route in routes_of(app.routes)
            if "POST" in route.methods and rule_of(route).startswith("user:") and "text/event-stream" in str(route.responses)
        }
        assert len(streams) > 4
        for path, route in streams.items():
            calls, waiting = [], [route.dependant]
            while waiting:
                one = waiting.pop()
                calls.append(one.call)
                waiting += one.dependencies
            assert any(getattr(call, "generates", False) for call in calls), path
