"""What goes in and comes out of a filtered engine. The judge is a stand-in that flags the word `scum`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from chatwright.errors import ConfigError
from chatwright.generation.api import SamplingParams
from chatwright.records import Message
from chatwright.serve.engine import Delta, Event, Finished, GenerationRequest, PromptTooLong, Started, TokenLogprob
from chatwright.serve.moderation.classifier import Classifier, Judgement
from chatwright.serve.moderation.filters import MAX_HELD_CHARS, SHORT_CHARS, Decision, FilterConfig, Moderator
from chatwright.serve.moderation.normalise import MAX_CHARS
from chatwright.serve.openai.errors import APIError
from chatwright.text.tool_format import OWN


class Judge:
    """Flags one word."""

    def judge(self, text: str) -> Judgement:
        hit = "scum" in text
        scores = {"offensive": 0.9 if hit else 0.1, "harmful_request": 0.0}
        return Judgement(scores=scores, flagged={"offensive": hit, "harmful_request": False})


class Parrot:
    """Says its answers in pieces of three characters, one token each; `index` by `index`."""

    name, context_length, ready = "parrot", 100, True

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked, self.closed = answers, 0, False

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        self.asked += 1
        try:
            yield Started(prompt_tokens=5)
            for index, answer in enumerate(self.answers):
                for at in range(0, len(answer), 3):
                    yield Delta(index=index, text=answer[at : at + 3], tokens=(TokenLogprob(id=at, logprob=-1.0),))
                yield Finished(index=index, reason="stop", completion_tokens=-(-len(answer) // 3))
        finally:
            self.closed = True

    def decode(self, ids: Any) -> str:
        return "scum"


def run(engine: Parrot, *said: str, prompt: Any = "", **policy: Any) -> tuple[list[Event], list[tuple[Decision, str]]]:
    logged: list[tuple[Decision, str]] = []
    moderator = Moderator(
        cast(Classifier, Judge()), FilterConfig(**policy), log=lambda decision, text: logged.append((decision, text))
    )
    request = GenerationRequest(
        request_id="r1", owner="key1", messages=tuple(Message(role="user", content=text) for text in said), prompt=prompt,
        params=SamplingParams(n=len(engine.answers)),
    )  # fmt: skip

    async def all_events() -> list[Event]:
        return [event async for event in moderator.guard(cast(Any, engine)).generate(request)]

    return asyncio.run(all_events()), logged


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.index == index)


def test_flagged_input_is_refused_without_asking_the_model() -> None:
    engine = Parrot("hello", "hello")
    events, logged = run(engine, "you scum", input="refuse")
    assert engine.asked == 0 and text_of(events) == text_of(events, 1) == "I can't help with that."
    assert [event.reason for event in events if isinstance(event, Finished)] == ["content_filter"] * 2
    assert text_of(run(engine, "你 scum", input="refuse", style="explain")[0]).startswith("抱歉")
    (decision, text), *others = logged
    assert not others and (decision.owner, decision.request_id) == ("key1", "r1")
    assert (decision.model, decision.direction) == ("parrot", "input")
    assert text == "" and len(decision.text_hash) == 64, "the text itself is not kept"


def test_input_is_blocked_flagged_or_let_through() -> None:
    with pytest.raises(APIError) as caught:
        run(Parrot("hello"), "you scum", input="block")
    assert caught.value.status == 400 and caught.value.code == "content_filter"
    events, logged = run(Parrot("hello"), "you scum", input="flag", keep_text=True)
    assert text_of(events) == "hello" and [(d.action, text) for d, text in logged] == [("flag", "you scum")]
    assert run(Parrot("hello"), "you scum", input="off")[1] == []
    assert run(Parrot("hello"), "good day", input="block")[1] == []


def test_long_input_is_not_judged_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    judging: list[bool] = []
    judge = Judge.judge

    def watched(self: Judge, text: str) -> Judgement:
        judging.append(threading.current_thread() is threading.main_thread())
        return judge(self, text)

    monkeypatch.setattr(Judge, "judge", watched)
    with pytest.raises(APIError):
        run(Parrot("hello"), "good day " * (SHORT_CHARS // 8) + "scum", input="block")
    run(Parrot("hello"), "good day", input="block")
    assert judging == [False, True]


def test_input_built_up_in_pieces_and_raw_token_prompts_are_seen() -> None:
    with pytest.raises(APIError):
        run(Parrot("hello"), "scum", "go on", "and on", input="block")
    with pytest.raises(APIError):
        run(Parrot("hello"), prompt=(1, 2), input="block")


@pytest.mark.parametrize("action", ["off", "flag", "refuse", "block"])
def test_a_harmless_answer_passes_unchanged(action: str) -> None:
    answer = "One thing. Another thing! " * 60 + "and a long tail without an end " * 30
    events, logged = run(Parrot(answer, "short"), "hi", output=action)
    plain, _ = run(Parrot(answer, "short"), "hi")
    assert events == plain and logged == []


def test_nothing_flagged_is_sent_and_the_model_is_stopped() -> None:
    answer = "A fine day. You are sc" + "um and worse. More that is never read. " * 50
    engine = Parrot(answer)
    events, logged = run(engine, "hi", output="refuse")
    assert text_of(events).startswith("A fine day.") and text_of(events).endswith("\n\nI can't help with that.")
    assert "scum" not in text_of(events) and "worse" not in text_of(events) and engine.closed
    last = events[-1]
    assert isinstance(last, Finished) and last.reason == "content_filter" and last.completion_tokens < 30
    assert [(d.direction, d.action) for d, _ in logged] == [("output", "refuse")]
    assert "help" not in text_of(run(Parrot(answer), "hi", output="block")[0])


def test_words_across_releases_are_seen_together() -> None:
    """The word is split where the held text is released because it got too long."""
    events, logged = run(Parrot("a" * (MAX_HELD_CHARS - 1) + "scum" + "b" * 900), "hi", output="refuse")
    assert logged and isinstance(events[-1], Finished) and events[-1].reason == "content_filter"


def test_answers_are_filtered_one_by_one() -> None:
    events, _ = run(Parrot("You are scum. Really.", "You are kind. Really."), "hi", output="block")
    assert text_of(events, 0) == "" and text_of(events, 1) == "You are kind. Really."
    assert {e.index: e.reason for e in events if isinstance(e, Finished)} == {0: "content_filter", 1: "stop"}


def test_flagged_answers_are_logged_once() -> None:
    events, logged = run(Parrot("You scum. You scum. You scum."), "hi", output="flag")
    assert text_of(events) == "You scum. You scum. You scum." and len(logged) == 1


def test_policies_are_checked() -> None:
    for wrong in ({"input": "maybe"}, {"style": " "}, {"thresholds": {"rude": 0.5}}, {"thresholds": {"offensive": 0.0}}):
        with pytest.raises(ConfigError):
            FilterConfig(**cast(Any, wrong))
    moderator = Moderator(cast(Classifier, Judge()), FilterConfig(input="block", thresholds={"offensive": 0.05}))
    assert moderator.check_input([Message(role="user", content="good day")]).action == "block"
    moderator = Moderator(cast(Classifier, Judge()), FilterConfig(input="refuse", style="No {category}, please."))
    assert moderator.check_input([Message(role="user", content="scum")]).refusal == "No offensive, please."


def judged(*turns: tuple[Any, str], judge: Any = None, **policy: Any) -> Decision:
    moderator = Moderator(judge or cast(Classifier, Judge()), FilterConfig(**{"input": "block", **policy}))
    return moderator.check_input([Message(role=role, content=text) for role, text in turns])


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
@pytest.mark.parametrize("later", [0, 1, 9])
def test_every_message_is_judged_whatever_its_role_and_age(role: str, later: int) -> None:
    turns = [(role, "you scum"), *[("user", "and on"), ("assistant", "yes")] * later, ("user", "go on")]
    assert judged(*turns).action == "block"
    assert judged(*turns, input="off").action == "allow"


def test_a_text_in_pieces_is_found_at_any_age() -> None:
    class Joined(Judge):
        def judge(self, text: str) -> Judgement:
            return super().judge(text.replace("\n", ""))

    pieces = [("user", "sc"), ("assistant", "yes"), ("user", "um")]
    assert judged(*pieces, *[("user", "go on")] * 9, judge=Joined()).action == "block"


def test_the_middle_of_a_long_message_is_judged() -> None:
    long = "good day " * 4000
    assert judged(("user", long)).action == "allow"

    class Short(Judge):
        def judge(self, text: str) -> Judgement:
            assert len(text) <= MAX_CHARS
            return super().judge(text)

    assert judged(("user", long + "scum" + long), judge=Short()).action == "block"


def test_a_long_chat_is_judged_once_not_at_each_turn() -> None:
    class Counting(Judge):
        count = 0

        def judge(self, text: str) -> Judgement:
            self.count += 1
            return super().judge(text)

    judge = Counting()
    moderator = Moderator(cast(Classifier, judge), FilterConfig(input="block"))
    chat = [Message(role=("user", "assistant")[n % 2], content=f"turn {n}") for n in range(200)]  # type: ignore[arg-type]
    moderator.check_input(chat)
    first = judge.count
    moderator.check_input([*chat, Message(role="user", content="one more")])
    assert first >= 200 and judge.count - first == 2, "the new message, and the last three together"


def test_a_prompt_beyond_the_context_is_refused_before_it_is_judged() -> None:
    class Small(Parrot):
        def refuse_long(self, request: GenerationRequest) -> None:
            raise PromptTooLong(10**6, 100)

    class Never(Judge):
        def judge(self, text: str) -> Judgement:
            raise AssertionError("judged")

    moderator = Moderator(cast(Classifier, Never()), FilterConfig(input="block"))
    request = GenerationRequest(request_id="r", owner="o", prompt="x" * 10**6, params=SamplingParams())

    async def first() -> None:
        await anext(moderator.guard(cast(Any, Small())).generate(request))

    with pytest.raises(PromptTooLong):
        asyncio.run(first())


def judged_request(engine: Parrot, **fields: Any) -> None:
    """Ask an engine behind a filter that blocks. Raises APIError when it does."""
    moderator = Moderator(cast(Classifier, Judge()), FilterConfig(input="block"))
    fields = {"messages": (Message(role="user", content="hi"),), **fields}
    request = GenerationRequest(request_id="r", owner="o", params=SamplingParams(), **fields)

    async def whole() -> None:
        async for _ in moderator.guard(cast(Any, engine)).generate(request):
            pass

    asyncio.run(whole())


def test_the_tools_of_a_chat_template_are_judged() -> None:
    def tool(**fields: Any) -> Any:
        return ({"type": "function", "function": {"name": "f", **fields}},)

    judged_request(Parrot("hello"), tools=tool(description="fine"))
    named = (Message(role="user", content="hi"), Message(role="tool", content="3", name="you scum"))
    for fields in (
        {"tools": tool(description="you scum")},
        {"tools": tool(parameters={"properties": {"you scum": {}}})},
        {"messages": named},
    ):
        with pytest.raises(APIError):
            judged_request(Parrot("hello"), **fields)


def test_the_form_of_calls_is_the_engines() -> None:
    engine = Parrot("x")
    engine.tool_format = OWN  # type: ignore[attr-defined]
    guarded = Moderator(cast(Classifier, Judge()), FilterConfig(input="block")).guard(cast(Any, engine))
    assert cast(Any, guarded).tool_format is OWN


def test_the_tools_of_an_upstream_are_judged() -> None:
    class Far(Parrot):
        takes_raw = True

    def ask(**raw: Any) -> None:
        judged_request(Far("hello"), raw=raw)

    ask(tools=[{"type": "function", "function": {"name": "f", "description": "fine"}}])
    for raw in (
        {"tools": [{"type": "function", "function": {"name": "f", "description": "you scum"}}]},
        {"response_format": {"json_schema": {"schema": {"properties": {"you scum": {}}}}}},
        {"messages": [{"role": "user", "content": "hi", "name": "scum"}]},
    ):
        with pytest.raises(APIError):
            ask(**raw)
