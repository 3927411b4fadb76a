from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, JudgeError, parse_verdict
from chatwright.labellers.protocol import LabelTask
from chatwright.records import Prompt, user
from openai_stub import Stub, longer_wins, running_stub, said, shown


@pytest.fixture
def stub() -> Iterator[Stub]:
    with running_stub() as made:
        yield made


def judge(stub: Stub, **settings: Any) -> AIJudge:
    return AIJudge(AIJudgeConfig(base_url=stub.url, model="m", retry_wait_s=0.01, **settings))


def task(*completions: str) -> LabelTask:
    prompt = Prompt(messages=user("What is rain?"), meta={"topic": "rain"})
    return LabelTask(prompt=prompt, completions=completions, ended=(True,) * len(completions))


def test_ranks_with_ties_and_asks_every_pair_in_both_places(stub: Stub) -> None:
    labeller = judge(stub, api_key="k3y", guideline="Prefer the longer one.", guideline_name="long")
    labeller.submit(task("aa", "bbbb", "cc", "d"))
    (ranking,) = labeller.collect()
    assert str(ranking.order) == "B>A=C>D"
    assert (ranking.labeller, ranking.labeller_kind, ranking.guideline) == ("ai:m", "ai", "long")
    assert ranking.meta["ai_judge"]["swap_disagreements"] == 0
    assert len(stub.requests) == 12
    assert len({shown(body) for body in stub.requests}) == 12
    assert {body["path"] for body in stub.requests} == {"/v1/chat/completions"}
    assert (
        stub.requests[0]["temperature"] == 0 and "Prefer the longer one." in stub.requests[0]["messages"][0]["content"]
    )
    assert stub.headers[0]["Authorization"] == "Bearer k3y"
    assert "k3y" not in json.dumps(ranking.to_dict())


def test_position_bias_becomes_a_tie(stub: Stub) -> None:
    stub.reply = lambda body: said("A")
    labeller = judge(stub)
    ranking = labeller.rank(task("x", "y", "z"))
    assert str(ranking.order) == "A=B=C"
    assert ranking.meta["ai_judge"]["swap_disagreements"] == 3


def test_a_cycle_still_gives_a_weak_order(stub: Stub) -> None:
    beats = {("r", "s"), ("s", "p"), ("p", "r")}
    stub.reply = lambda body: said("A" if shown(body) in beats else "B")
    assert str(judge(stub).rank(task("r", "p", "s")).order) == "A=B=C"


def test_tries_again_after_overload(stub: Stub) -> None:
    failures = iter([429, 503])
    stub.reply = lambda body: (code, "busy") if (code := next(failures, 0)) else longer_wins(body)
    assert str(judge(stub, parallel=1).rank(task("aa", "b")).order) == "A>B"
    assert len(stub.requests) == 4


def test_gives_up_with_the_reason(stub: Stub) -> None:
    stub.reply = lambda body: (500, "broken")
    with pytest.raises(JudgeError, match="status 500 after 2 tries"):
        judge(stub, retries=1, parallel=1).rank(task("a", "b"))
    stub.reply = lambda body: (401, "internal: the key is sk-123")
    with pytest.raises(JudgeError, match="status 401") as refused:
        judge(stub).rank(task("a", "b"))
    assert "internal" not in str(refused.value)  # leads read this message; what the endpoint says is not for them
    stub.reply = lambda body: (200, "<title>internal</title>")
    with pytest.raises(JudgeError, match="not a chat completion") as refused:
        judge(stub).rank(task("a", "b"))
    assert "internal" not in str(refused.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stub: Stub, status: int) -> None:
    with running_stub() as other:
        stub.reply, stub.location = lambda body: (status, ""), f"{other.url}/chat/completions"
        with pytest.raises(JudgeError, match=f"status {status}"):
            judge(stub).rank(task("a", "b"))
        assert other.requests == []


def test_nobody_listens(stub: Stub) -> None:
    stub.server.server_close()
    with pytest.raises(JudgeError, match="no answer"):
        judge(stub, retries=0).rank(task("a", "b"))


def test_bad_address() -> None:
    with pytest.raises(ConfigError, match="base_url"):
        AIJudge(AIJudgeConfig(base_url="file:///etc/passwd", model="m"))


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "first"),
        ("B.", "second"),
        ("Tie", "tie"),
        ("Answer B is a better one", "second"),
        ("<think>A is nice. A!</think> B", "second"),
        ("I cannot say", "tie"),
        ("", "tie"),
    ],
)
def test_parse_verdict(reply: str, verdict: str) -> None:
    assert parse_verdict(reply) == verdict
