"""Moderation over HTTP: the route, the filters before and after a model, and the log that administrators read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from api_server import KEY, app_of
from chatwright.serve.engine import Delta, Engine, EngineRegistry, Event, Finished, GenerationRequest, Started, TokenLogprob
from chatwright.serve.moderation.classifier import Classifier, Judgement
from chatwright.serve.moderation.filters import FilterConfig, Moderator
from chatwright.serve.moderation.service import guarded, log_to
from chatwright.serve.moderation.tables import ModerationEvent

HEADERS = {"authorization": f"Bearer {KEY}"}


class Judge:
    """Flags one word."""

    name = "words"

    def judge(self, text: str) -> Judgement:
        hit = "scum" in text
        scores = {"offensive": 0.9 if hit else 0.1, "harmful_request": 0.0}
        return Judgement(scores=scores, flagged={"offensive": hit, "harmful_request": False})


class Echo:
    """Answers with the question; `insult` makes it flaggable."""

    name, context_length, ready, asked = "echo", 1000, True, 0

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.asked += 1
        text = request.messages[-1].content.replace("insult", "You scum.")
        yield Started(prompt_tokens=3)
        yield Delta(index=0, text=text, tokens=(TokenLogprob(id=1, logprob=-1.0),))
        yield Finished(index=0, reason="stop", completion_tokens=1)

    async def drain(self, timeout_s: float) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[TestClient, Echo, Any]]:
    echo = Echo()
    with app_of(tmp_path) as app:
        shared = app.state.services
        policy = FilterConfig(input="refuse", output="refuse")
        moderator = Moderator(cast(Classifier, Judge()), policy, log=log_to(shared.workspace))
        shared.parts["moderation"] = moderator
        shared.registry._guard = lambda engine: guarded(engine, moderator)
        shared.registry.add(cast(Engine, echo))
        yield TestClient(app, base_url="http://127.0.0.1:8000", headers=HEADERS), echo, shared


def ask(client: TestClient, text: str, **fields: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}], **fields})


def test_texts_are_judged(served: Any) -> None:
    client, _, _ = served
    reply = client.post("/v1/moderations", json={"input": ["hello", "you scum"]}).json()
    assert [one["flagged"] for one in reply["results"]] == [False, True] and reply["model"] == "words"
    assert reply["results"][1]["category_scores"]["offensive"] == 0.9
    assert client.post("/v1/moderations", json={"input": "x"}, headers={"authorization": "Bearer no"}).status_code == 401


def test_without_a_classifier_the_answer_says_what_to_do(tmp_path: Path) -> None:
    with app_of(tmp_path) as app:
        client = TestClient(app, base_url="http://127.0.0.1:8000", headers=HEADERS)
        answer = client.post("/v1/moderations", json={"input": "x"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "moderation_not_configured"
    assert "--moderation DIR" in answer.json()["error"]["message"]


def test_what_goes_in_and_what_comes_out_is_filtered_and_logged(served: Any) -> None:
    client, echo, shared = served
    assert ask(client, "a kind word").json()["choices"][0]["message"]["content"] == "a kind word"
    refused = ask(client, "you scum").json()["choices"][0]
    assert refused["finish_reason"] == "content_filter" and "scum" not in refused["message"]["content"]
    assert echo.asked == 1, "the model was not asked"
    stopped = ask(client, "insult").json()["choices"][0]
    assert stopped["finish_reason"] == "content_filter" and "scum" not in stopped["message"]["content"]
    streamed = ask(client, "insult", stream=True).text
    assert "scum" not in streamed and '"content_filter"' in streamed and streamed.rstrip().endswith("data: [DONE]")
    with shared.workspace.reading() as session:
        rows = [(row.direction, row.category, row.text) for row in session.scalars(select(ModerationEvent))]
    assert sorted(row[0] for row in rows) == ["input", "output", "output"]
    assert {row[1] for row in rows} == {"offensive"} and all(row[2] is None for row in rows), "hashes, not texts"


def test_an_engine_that_is_swapped_in_is_filtered_too(served: Any) -> None:
    import asyncio

    client, _, shared = served

    async def swap() -> None:
        shared.registry.swap("echo", cast(Engine, Echo()), drain_s=0)
        await asyncio.sleep(0)

    asyncio.run(swap())
    assert ask(client, "you scum").json()["choices"][0]["finish_reason"] == "content_filter"


def test_the_registry_puts_every_engine_behind_its_guard() -> None:
    seen: list[str] = []

    def guard(engine: Engine) -> Engine:
        seen.append(engine.name)
        return engine

    registry = EngineRegistry(cast(Engine, Echo()), guard=guard)
    assert seen == ["echo"] and registry.names() == ["echo"]
