"""LocalEngine and EngineRegistry: conversations that are too long, scores, hot swap without a lost token."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import torch

from chatwright.errors import ConfigError, DataError, UsageError
from chatwright.generation.api import SamplingParams
from chatwright.generation.lm import LM
from chatwright.records import Message
from chatwright.serve import local_engine
from chatwright.serve.engine import (
    Delta,
    EngineBusy,
    EngineGone,
    EngineRegistry,
    Event,
    Finished,
    GenerationRequest,
    PromptTooLong,
    Started,
)
from chatwright.serve.local_engine import LocalEngine
from tiny_models import tiny_model

PARAMS = SamplingParams(max_new_tokens=20, temperature=0, stop_ids=frozenset())


@pytest.fixture
def lm(tokenizer: Any) -> LM:
    return LM(tiny_model("llama", tokenizer.vocab_size, max_positions=512), tokenizer)


@pytest.fixture
def engine(lm: LM) -> Iterator[LocalEngine]:
    made = LocalEngine("tiny", lm, max_batch=4)
    yield made
    asyncio.run(made.drain(0))


def request(*texts: str, system: str = "", **fields: Any) -> GenerationRequest:
    """A conversation of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [Message(role=roles[n % 2], content=text) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    if system:
        messages.insert(0, Message(role="system", content=system))
    return GenerationRequest(request_id="r", owner="o", messages=tuple(messages), **{"params": PARAMS} | fields)


async def collect(engine: LocalEngine, asked: GenerationRequest) -> list[Event]:
    return [event async for event in engine.generate(asked)]


def test_an_answer_is_that_of_the_model(engine: LocalEngine, lm: LM) -> None:
    events = asyncio.run(collect(engine, request("What is the moon?")))
    wanted = lm.generator.generate([lm.prompt_ids("What is the moon?")], PARAMS)[0][0]
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == wanted.text
    assert [token.id for delta in deltas for token in delta.tokens] == list(wanted.ids)
    given = [token.logprob for delta in deltas for token in delta.tokens]
    assert given == pytest.approx(wanted.logprobs, abs=1e-5)
    started = events[0]
    assert isinstance(started, Started) and started.prompt_tokens == len(wanted.prompt_ids)


def test_too_long_a_conversation_is_an_error_or_loses_its_oldest_turns(engine: LocalEngine, lm: LM) -> None:
    talk = [f"{n} " + "Zebra quiz " * 7 for n in range(9)]
    with pytest.raises(PromptTooLong) as caught:
        asyncio.run(collect(engine, request(*talk, system="Be kind.")))
    assert caught.value.context == 512 < caught.value.num_tokens
    events = asyncio.run(collect(engine, request(*talk, system="Be kind.", overflow="drop_oldest")))
    started = events[0]
    assert isinstance(started, Started) and started.dropped_messages in (2, 4, 6)
    assert isinstance(events[-1], Finished) and events[-1].completion_tokens == 20
    left = request(*talk, system="Be kind.").messages
    kept = [left[0], *left[1 + started.dropped_messages :]]
    assert started.prompt_tokens == len(lm.prompt_ids(kept))
    one_more = [left[0], *left[1 + started.dropped_messages - 2 :]]
    assert len(lm.prompt_ids(one_more)) + 20 > 512, "no more than needed is left out"
    fits = asyncio.run(collect(engine, request(*talk[:1], overflow="drop_oldest")))
    assert isinstance(fits[0], Started) and fits[0].dropped_messages == 0
    with pytest.raises(PromptTooLong):
        asyncio.run(collect(engine, request("moon rock " * 600, overflow="drop_oldest")))
    with pytest.raises(PromptTooLong):
        asyncio.run(collect(engine, request(prompt=tuple([5] * 512))))


def test_bad_requests_are_errors_and_the_engine_goes_on(engine: LocalEngine) -> None:
    with pytest.raises(DataError, match="token"):
        asyncio.run(collect(engine, request(prompt=(99999,))))
    with pytest.raises(DataError, match="empty"):
        asyncio.run(collect(engine, request(prompt="")))
    with pytest.raises(ConfigError, match="dimensions"):
        asyncio.run(engine.embed(["moon"], 9999))
    assert engine.ready and isinstance(asyncio.run(collect(engine, request("moon")))[-1], Finished)


def test_scores_are_those_of_the_model(engine: LocalEngine, lm: LM) -> None:
    ids = lm.tokenizer.encode("Bees make honey to eat in winter, when there are no flowers.")
    wanted = torch.log_softmax(lm.logits(ids), -1)
    rows = asyncio.run(engine.score(ids, 3))
    assert rows[0] is None and len(rows) == len(ids)
    for place, row in enumerate(rows[1:], 1):
        assert row is not None and row.id == ids[place]
        assert row.logprob == pytest.approx(float(wanted[place - 1, ids[place]]), abs=1e-6)
        best = wanted[place - 1].topk(3)
        assert [token for token, _ in row.top] == best.indices.tolist()
        assert [logprob for _, logprob in row.top] == pytest.approx(best.values.tolist(), abs=1e-6)


def test_scores_while_answers_run(engine: LocalEngine) -> None:
    """Scoring and embedding come between two steps of the others."""

    async def run() -> None:
        long = replace(PARAMS, max_new_tokens=400)
        async with aclosing(engine.generate(request("moon", params=long))) as events:  # type: ignore[type-var]
            assert isinstance(await anext(events), Started)
            vectors, num_tokens = await engine.embed(["moon rock", [5, 6, 7]], 16)
            assert [len(vector) for vector in vectors] == [16, 16] and num_tokens > 3
            assert sum(x * x for x in vectors[0]) == pytest.approx(1.0)
            assert engine.stats().running == 1

    asyncio.run(run())


def test_a_full_engine_refuses_before_any_work(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine("tiny", lm, max_batch=1, max_waiting=1)
    asked = request("moon", params=replace(PARAMS, max_new_tokens=400))

    async def run() -> None:
        tasks = [asyncio.create_task(collect(engine, asked)) for _ in range(2)]
        while engine.stats().waiting + engine.stats().running < 2:
            await asyncio.sleep(0.002)
        monkeypatch.setattr(engine, "_prompt", None)
        with pytest.raises(EngineBusy):
            await collect(engine, asked)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.drain(0)

    asyncio.run(run())


def test_hot_swap_drops_no_stream(tokenizer: Any, lm: LM) -> None:
    """What runs on the old model ends there, every token of it; what comes later is the new one's."""
    other = LM(tiny_model("llama", tokenizer.vocab_size, seed=9, max_positions=512), tokenizer)
    long = request("moon", params=replace(PARAMS, max_new_tokens=200))
    wanted_old = lm.generator.generate([lm.prompt_ids("moon")], long.params)[0][0]
    wanted_new = other.generator.generate([other.prompt_ids("moon")], PARAMS)[0][0]
    old, new = LocalEngine("m", lm), LocalEngine("m", other)
    registry = EngineRegistry(old)
    assert registry.names() == ["m"] and registry.get() is old and registry.get("n") is None

    async def run() -> tuple[list[list[Event]], list[Event]]:
        streams = [asyncio.create_task(collect(old, long)) for _ in range(6)]
        while old.stats().running < 6:
            await asyncio.sleep(0.002)
        registry.swap("m", new, drain_s=30)
        with pytest.raises(UsageError, match="not served"):
            registry.swap("n", new)
        current = registry.get("m")
        assert current is new
        after = await collect(new, request("moon"))
        before = await asyncio.gather(*streams)
        while old.scheduler._thread.is_alive():
            await asyncio.sleep(0.01)
        with pytest.raises(EngineGone):
            await collect(old, request("moon"))
        await asyncio.gather(*registry._draining)
        await new.drain(0)
        return list(before), after

    before, after = asyncio.run(run())
    for events in before:
        assert tuple(t.id for e in events if isinstance(e, Delta) for t in e.tokens) == wanted_old.ids
    assert tuple(t.id for e in after if isinstance(e, Delta) for t in e.tokens) == wanted_new.ids


@pytest.mark.parametrize("add_bos", [False, True])
def test_echoed_texts_begin_as_generated_ones_do(make_tokenizer: Any, add_bos: bool) -> None:
    """A bos token stands before both, or before neither."""
    from chatwright.serve.openai.generate import raw_ids

    made = make_tokenizer(add_bos_token=add_bos)
    lm = LM(tiny_model("llama", made.vocab_size), made)
    engine = LocalEngine("m", lm)
    try:
        ids = raw_ids(engine, "Bees make honey")
        assert ids == lm.prompt_ids("Bees make honey", raw=True)
        assert (ids[0] == made.bos_id) == add_bos and ids[-1] == made.encode("Bees make honey")[-1]
    finally:
        asyncio.run(engine.drain(0))


def test_the_thread_that_loads_a_model_ends(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: list[threading.Thread] = []

    def load(*_: object, **__: object) -> LM:
        loaders.append(threading.current_thread())
        return lm

    monkeypatch.setattr(local_engine, "load", load)
    monkeypatch.setattr(local_engine, "content_hash", lambda _: "hash")
    engine = LocalEngine.open("any")
    assert engine.version == "hash"
    asyncio.run(engine.drain(5))
    (loader,) = loaders
    assert loader is not threading.current_thread() and not loader.is_alive()


COUNT_THREADS = """
import os, time, torch
from chatwright.serve.local_engine import in_own_thread

def threads():
    return len(os.listdir("/proc/self/task"))

def compute():
    torch.ones(1 << 22).exp()
    return threads()

torch.set_num_threads(2)
before, meanwhile, ends_at = threads(), in_own_thread(compute), time.monotonic() + 10
while threads() > before and time.monotonic() < ends_at:
    time.sleep(0.01)
print(before, meanwhile, threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_that_helped_a_thread_end_with_it() -> None:
    """Those that stay would slow every step of the scheduler (docs/methods/serving.md)."""
    one_helper = os.environ | {"OMP_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", COUNT_THREADS], env=one_helper, capture_output=True, text=True, check=True)
    before, meanwhile, after = map(int, told.stdout.split())
    assert meanwhile == before + 2 and after == before
