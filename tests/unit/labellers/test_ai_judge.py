from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.labellers.ai_judge import AIJudge, AIJudgeConfig, JudgeError, UnreadableError, copeland
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
    assert stub.requests[0]["temperature"] == 0 and "Prefer the longer one." in stub.requests[0]["messages"][0]["content"]
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


# ---- replies that are no verdict -----------------------------------------------------------------------------------------


def reply(text: object, reason: str = "stop", **message: object) -> tuple[int, str]:
    content = {"role": "assistant", "content": text, **message}
    return 200, json.dumps({"choices": [{"message": content, "finish_reason": reason}]})


@pytest.mark.parametrize("words", ["Answer {w} is better than answer {l}.", "I choose {w}, because {l} is wrong."])
def test_a_sentence_that_names_both_answers_never_inverts_a_label(stub: Stub, words: str) -> None:
    """Both askings used to be inverted, so that the swap found nothing."""

    def sentence(body: dict[str, Any]) -> tuple[int, str]:
        a, b = shown(body)
        better, worse = ("A", "B") if len(a) > len(b) else ("B", "A")
        return said(words.format(w=better, l=worse))

    stub.reply = sentence
    labeller = judge(stub, max_unreadable=1.0)
    with pytest.raises(UnreadableError):
        labeller.rank(task("short", "much longer"))
    assert len(stub.requests) == 4  # each of the two replies was asked for twice
    assert labeller.counts.to_dict() == {"replies": 2, "unreadable": 2, "pairs": 1, "swap_disagreements": 0}


def test_the_second_asking_says_what_is_wanted_and_counts(stub: Stub) -> None:
    def stubborn_once(body: dict[str, Any]) -> tuple[int, str]:
        again = "nothing else" in body["messages"][-1]["content"]
        return longer_wins(body) if again else said("Both have merits, but A is nicer.")

    stub.reply = stubborn_once
    labeller = judge(stub)
    assert str(labeller.rank(task("aa", "b")).order) == "A>B"
    assert labeller.counts.unreadable == 0 and len(stub.requests) == 4


def test_an_answer_whose_pairs_cannot_be_read_is_unranked_not_tied(stub: Stub) -> None:
    stub.reply = lambda body: said("I cannot say") if "c?" in shown(body) else longer_wins(body)
    labeller = judge(stub, max_unreadable=1.0)
    ranking = labeller.rank(task("aaaa", "bb", "c?"))
    assert str(ranking.order) == "A>B" and ranking.order.unranked == ("C",)
    assert ranking.meta["ai_judge"]["unreadable"] == 4 and ranking.meta["ai_judge"]["points"] == [1.0, 0.0, None]


def test_a_judge_that_answers_with_essays_is_refused(stub: Stub) -> None:
    stub.reply = lambda body: said("Well, A, or B.")
    labeller = judge(stub)
    with pytest.raises(JudgeError, match=r"20 of 20 replies hold no verdict.*max_unreadable.*, 0 of them cut"):
        labeller.rank(task("a", "b", "c", "d", "e"))
    few = judge(stub)
    with pytest.raises(UnreadableError):
        few.rank(task("a", "b"))
    with pytest.raises(JudgeError, match="2 of 2"):
        few.check()


def test_a_thinking_model_is_read(stub: Stub) -> None:
    """Thinking in its own field, in a block, in parts, and cut at the limit: asked for again with twice the tokens."""

    def thinking(body: dict[str, Any]) -> tuple[int, str]:
        a, b = shown(body)
        if body["max_tokens"] < 4000:
            return reply("<think>Okay, A user wants", "length")
        word = "A" if len(a) > len(b) else "B"
        if len(stub.requests) % 3 == 0:
            return reply(word, reasoning_content="B? No: A, or B.")
        if len(stub.requests) % 3 == 1:
            return reply([{"type": "thinking", "thinking": "B"}, {"type": "text", "text": word}])
        return reply(f"<think>\nB is nice.\n</think>\n\n{word}")

    stub.reply = thinking
    labeller = judge(stub, parallel=1)
    assert str(labeller.rank(task("aaaa", "bb", "c")).order) == "A>B>C" and labeller.counts.unreadable == 0
    stub.reply = lambda body: reply(None, reasoning_content="A")
    with pytest.raises(UnreadableError):
        labeller.rank(task("a", "b"))


def test_a_reply_that_was_cut_is_no_verdict(stub: Stub) -> None:
    stub.reply = lambda body: reply("B", "length")  # the beginning of "Both are fine"
    with pytest.raises(UnreadableError):
        judge(stub).rank(task("a", "b"))


def test_structured_output_is_asked_for_where_the_endpoint_has_it(stub: Stub) -> None:
    def as_json(body: dict[str, Any]) -> tuple[int, str]:
        schema = body["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["verdict"]["enum"] == ["A", "B", "TIE"]
        word = json.loads(longer_wins(body)[1])["choices"][0]["message"]["content"]
        return said(json.dumps({"verdict": word}))

    stub.reply = as_json
    assert str(judge(stub).rank(task("aa", "b", "c")).order) == "A>B=C"


@pytest.mark.parametrize("status", [400, 422, 501])
def test_an_endpoint_without_structured_output_is_asked_without(stub: Stub, status: int) -> None:
    stub.reply = lambda body: (status, "unknown field response_format") if "response_format" in body else longer_wins(body)
    labeller = judge(stub, parallel=1)
    assert str(labeller.rank(task("aa", "b", "c")).order) == "A>B=C"
    assert len(stub.requests) == 7  # one rejection, remembered
    assert "response_format" not in judge(stub, structured="off")._dialect.body(labeller.config, "x", 1)


def test_models_that_take_other_parameters_work(stub: Stub) -> None:
    """OpenAI's reasoning models: no temperature, and another name of the limit."""

    def particular(body: dict[str, Any]) -> tuple[int, str]:
        if "max_tokens" in body:
            return 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "temperature" in body:
            return 400, "Unsupported value: 'temperature' does not support 0 with this model."
        return longer_wins(body)

    stub.reply = particular
    assert str(judge(stub).rank(task("aa", "b", "c")).order) == "A>B=C"
    assert "response_format" in stub.requests[-1]
    stub.reply = lambda body: (400, "this model's context has 512 tokens")
    with pytest.raises(JudgeError, match="status 400.*max_tokens"):
        judge(stub).rank(task("a", "b"))


def test_answers_are_left_out_until_every_pair_is_read() -> None:
    read, unread = ("first", "second"), (None, "first")
    assert copeland(3, {(0, 1): read, (0, 2): read, (1, 2): unread}) in ([1.0, 0.0, None], [1.0, None, 0.0])
    assert copeland(4, {(0, 1): unread, (0, 2): unread, (0, 3): unread, (1, 2): read, (1, 3): read, (2, 3): read}) == [
        None, 2.0, 1.0, 0.0,
    ]  # fmt: skip
    with pytest.raises(UnreadableError):
        copeland(2, {(0, 1): (None, None)})


@pytest.mark.parametrize("settings", [{"max_tokens": 0}, {"max_unreadable": 1.5}, {"max_unreadable": float("nan")}])
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AIJudgeConfig(base_url="http://x/v1", model="m", **settings)
