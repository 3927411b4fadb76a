"""The chat on the model in this process: what is stored is what was drawn, and a branch keeps its beginning exactly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from api_server import tiny_engine
from chat_server import events_of, on_loop, text_of
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from workspaces import admin_of, workspace_of


def played(folder: Path, open_engine: Any, scenario: Any) -> None:
    async def whole() -> None:
        engine = open_engine()
        with workspace_of("sqlite", folder) as workspace:
            app = create_app(ServeConfig(), EngineRegistry(engine), workspace)
            signed_in = await asyncio.to_thread(admin_of, app)
            try:
                async with on_loop(app, signed_in) as client:
                    await scenario(client)
            finally:
                await engine.drain(1)

    asyncio.run(whole())


async def asked(client: httpx.AsyncClient, content: str, **settings: Any) -> tuple[str, list[Any], str]:
    """(conversation, events, id of the answer)."""
    chat = (await client.post("/api/conversations", json={"settings": settings})).json()["id"]
    answer = await client.post(f"/api/conversations/{chat}/messages", json={"content": content})
    events = events_of(answer.text)
    assert events[-1][1]["status"] == "complete", events
    return chat, events, events[0][1]["message_id"]


def test_branches_keep_their_beginning_and_go_on_as_the_model_does(tmp_path: Path, tokenizer: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        _, _, reply = await asked(client, "héllo 你好", max_tokens=12, temperature=0)
        tokens = (await client.get(f"/api/messages/{reply}/tokens")).json()["tokens"]
        assert len(tokens) >= 4 and all(len(token["top"]) == 5 for token in tokens)
        for place in (0, 3):
            other = next(one for one in tokens[place]["top"] if one["id"] != tokens[place]["id"])
            branch = {"token": place, "alternative": other["id"]}
            made = events_of((await client.post(f"/api/messages/{reply}/branch", json=branch)).text)
            assert made[-1][1]["status"] == "complete", made
            branched = (await client.get(f"/api/messages/{made[0][1]['message_id']}/tokens")).json()["tokens"]
            ids = [token["id"] for token in branched]
            assert ids[: place + 1] == [token["id"] for token in tokens[:place]] + [other["id"]]
            assert place + 1 < len(ids) <= 12
            assert branched[place]["logprob"] == other["logprob"]

        same = {"token": 3, "alternative": tokens[3]["id"]}  # the token that stood there: everything comes back
        made = events_of((await client.post(f"/api/messages/{reply}/branch", json=same)).text)
        again = (await client.get(f"/api/messages/{made[0][1]['message_id']}/tokens")).json()["tokens"]
        assert [token["id"] for token in again] == [token["id"] for token in tokens]
        logprobs = [token["logprob"] for token in tokens]
        assert [token["logprob"] for token in again] == pytest.approx(logprobs, abs=1e-4)

    played(tmp_path, lambda: tiny_engine(tokenizer), scenario)


@pytest.mark.slow
def test_the_real_model_answers_with_the_calculators_result_and_branches(tmp_path: Path) -> None:
    from chatwright.serve.local_engine import LocalEngine

    async def scenario(client: httpx.AsyncClient) -> None:
        for question in ("What is 3457 * 43216?", "3457 乘以 43216 等于多少?"):
            _, events, _ = await asked(client, question, temperature=0, max_tokens=40)
            assert "149397712" in text_of(events)
        _, events, reply = await asked(client, "Name a colour.", temperature=0, max_tokens=16)
        tokens = (await client.get(f"/api/messages/{reply}/tokens")).json()["tokens"]
        kept = "".join(token["text"] for token in tokens[:2])
        other = tokens[2]["top"][1]
        branch = {"token": 2, "alternative": other["id"]}
        made = text_of(events_of((await client.post(f"/api/messages/{reply}/branch", json=branch)).text))
        assert made.startswith(kept + other["text"]) and made != text_of(events)

    played(tmp_path, lambda: LocalEngine.open("smollm2-135m-instruct"), scenario)
