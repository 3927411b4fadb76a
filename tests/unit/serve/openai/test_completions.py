"""Raw completions: echo, scoring, several prompts, best_of, streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from sqlalchemy import select

from api_server import ApiClient, ScriptedEngine
from chatwright.serve.auth_tables import Usage


def ask(client: ApiClient, **fields: Any) -> Any:
    answer = client.post("/v1/completions", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json() if not fields.get("stream") else answer


@pytest.mark.parametrize(
    "prompt, seen",
    [("ab", ["ab"]), (["ab", "c"], ["ab", "c"]), ([97, 98], [(97, 98)]), ([[97], [98, 99]], [(97,), (98, 99)])],
)
def test_every_kind_of_prompt(client: ApiClient, engine: ScriptedEngine, prompt: Any, seen: list[Any]) -> None:
    reply = ask(client, prompt=prompt, n=2, max_tokens=3)
    assert sorted([request.prompt for request in engine.asked], key=str) == sorted(seen, key=str)
    assert [choice["index"] for choice in reply["choices"]] == list(range(2 * len(seen)))
    assert {choice["text"] for choice in reply["choices"]} == {"Hel"}
    assert reply["object"] == "text_completion" and reply["usage"]["completion_tokens"] == 6 * len(seen)


def test_default_length_is_openais(client: ApiClient, engine: ScriptedEngine) -> None:
    ask(client, prompt="x")
    assert engine.asked[0].params.max_new_tokens == 16


@pytest.mark.parametrize("prompt", ["añb", list("añb".encode())])
@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_gives_every_prompt_token_and_the_new_ones(client: ApiClient, prompt: Any, stream: bool) -> None:
    fields = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "stream": stream}
    if stream:
        events = [json.loads(e[6:]) for e in ask(client, **fields).text.split("\n\n") if e and "[DONE]" not in e]
        text = "".join(event["choices"][0]["text"] for event in events)
        found = {name: [] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
        for event in events:
            for name, values in (event["choices"][0]["logprobs"] or {}).items():
                found[name] += values
    else:
        choice = ask(client, **fields)["choices"][0]
        text, found = choice["text"], choice["logprobs"]
    assert text == "añbH"
    assert found["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xb1", "b", "H"]
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    assert found["token_logprobs"][1:] == [-1 / 3, -1 / 3 - 1, -1 / 3 - 2, -0.1]
    assert found["text_offset"] == [0, 1, 1, 2, 3]
    for token, value, top in list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))[1:]:
        assert top[token] == value  # bit for bit
    assert found["top_logprobs"][1]["a"] == -0.5


def test_echo_alone_and_scoring_alone(client: ApiClient, engine: ScriptedEngine) -> None:
    assert ask(client, prompt="ab", echo=True, max_tokens=2)["choices"][0]["text"] == "abHe"
    assert ask(client, prompt=[97, 98], echo=True, max_tokens=2)["choices"][0]["text"] == "abHe"
    engine.asked.clear()
    reply = ask(client, prompt=["ab", "cde"], echo=True, logprobs=0, max_tokens=0)
    assert not engine.asked and [choice["text"] for choice in reply["choices"]] == ["ab", "cde"]
    assert reply["choices"][1]["logprobs"]["top_logprobs"] == [None, {"d": -1 / 3}, {"e": -1 / 3 - 1}]
    assert reply["usage"]["prompt_tokens"] == 5 and reply["usage"]["completion_tokens"] == 0


def test_best_of_keeps_the_likeliest(client: ApiClient, engine: ScriptedEngine) -> None:
    choices = ask(client, prompt="x", best_of=3, n=2, logprobs=0, max_tokens=2)["choices"]
    # The scripted engine's answers become less likely with their number.
    assert [choice["logprobs"]["token_logprobs"][0] for choice in choices] == [-0.1, -0.2]
    assert engine.asked[0].params.n == 3


def test_stream_of_several_prompts(client: ApiClient) -> None:
    answer = ask(client, prompt=["a", "b"], n=2, stream=True, echo=True, stream_options={"include_usage": True})
    events = [json.loads(event[6:]) for event in answer.text.split("\n\n") if event and "[DONE]" not in event]
    texts, finished = ["", "", "", ""], set()
    for event in events[:-1]:
        choice = event["choices"][0]
        texts[choice["index"]] += choice["text"]
        finished |= {choice["index"]} if choice["finish_reason"] else set()
    assert texts == ["aHello there"] * 2 + ["bHello there"] * 2 and finished == {0, 1, 2, 3}
    assert events[-1]["choices"] == [] and events[-1]["usage"]["prompt_tokens"] == 2


def test_two_tokens_with_one_text_are_both_shown(engine: ScriptedEngine) -> None:
    from chatwright.serve.engine import TokenLogprob
    from chatwright.serve.openai.tokens import CompletionTokens

    engine.token_bytes = lambda token_id: b"a" if token_id in (1, 2) else b"b"  # type: ignore[method-assign]
    token = TokenLogprob(id=2, logprob=-2.0, top=((1, -0.5), (3, float("-inf"))))
    shown = CompletionTokens(engine).take([2], [token])["top_logprobs"][0]
    assert shown == {"a": -2.0, "token_id:1": -0.5, "b": -9999.0}


def used(client: ApiClient) -> int:
    """Tokens that the account of the key has used."""
    with client.app.state.services.workspace.reading() as session:
        return sum(row.prompt_tokens + row.completion_tokens for row in session.scalars(select(Usage)))


@pytest.mark.parametrize("stream", [False, True])
def test_scoring_and_echoes_are_counted(client: ApiClient, stream: bool) -> None:
    ask(client, prompt=["ab", "cde"], echo=True, logprobs=0, max_tokens=0, stream=stream)
    assert used(client) == 5
    ask(client, prompt="abcd", echo=True, max_tokens=0, stream=stream)
    assert used(client) == 9
    before = used(client)
    ask(client, prompt="ab", echo=True, logprobs=1, max_tokens=1, stream=stream)
    assert used(client) == before + 3  # the prompt once, and the new token
    assert client.post("/v1/completions", json={"prompt": [], "echo": True, "max_tokens": 0}).status_code == 400
    assert used(client) == before + 3


def test_an_echo_is_counted_when_its_client_goes(client: ApiClient, engine: ScriptedEngine, monkeypatch: Any) -> None:
    """The model has scored the first prompt when the second one fails; generation never begins."""
    score, asked = engine.score, []

    async def fails_at_the_second(ids: Any, top: int) -> Any:
        asked.append(ids)
        if len(asked) == 2:
            raise asyncio.CancelledError
        return await score(ids, top)

    monkeypatch.setattr(engine, "score", fails_at_the_second)
    with contextlib.suppress(asyncio.CancelledError):
        client.post("/v1/completions", json={"prompt": ["ab", "cde"], "echo": True, "logprobs": 0, "max_tokens": 4})
    client.get("/health")  # the loop goes on, and what was counted is written
    deadline = time.monotonic() + 20
    while used(client) != 5 and time.monotonic() < deadline:
        client.get("/health")
        time.sleep(0.05)
    assert used(client) == 5 and not engine.asked
