"""Scheduler: everybody gets what they would get alone, in turn, and every stream ends whatever happens."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from chatwright.errors import ConfigError, ModelError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.generation.local import LocalGenerator
from chatwright.serve import scheduler as scheduler_module
from chatwright.serve.engine import Delta, EngineBusy, EngineGone, EngineRegistry, Event, Finished, Started
from chatwright.serve.scheduler import LONG_PROMPT, Scheduler
from chatwright.serve.shares import Shares
from tiny_models import tiny_model

GREEDY = SamplingParams(max_new_tokens=12, temperature=0, stop_ids=frozenset())
LONG = replace(GREEDY, max_new_tokens=900)


@pytest.fixture
def generator(tokenizer: Any) -> LocalGenerator:
    return LocalGenerator(tiny_model("llama", tokenizer.vocab_size, max_positions=1024), tokenizer)


@pytest.fixture
def scheduler(generator: LocalGenerator) -> Iterator[Scheduler]:
    made = Scheduler(generator, max_batch=4, max_waiting=8)
    made.start()
    yield made
    asyncio.run(made.drain(0))
    assert not made._thread.is_alive()


def submit(
    scheduler: Scheduler, ids: Sequence[int], params: SamplingParams = GREEDY, owner: str = "a", deadline_s: float = 60.0,
    interactive: bool = False,
) -> AsyncIterator[Event]:  # fmt: skip
    started = Started(prompt_tokens=len(ids))
    return scheduler.submit(owner, ids, params, started, deadline_s, interactive=interactive)


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def ids_of(events: Sequence[Event], index: int = 0) -> tuple[int, ...]:
    deltas = [event for event in events if isinstance(event, Delta) and event.index == index]
    return tuple(token.id for delta in deltas for token in delta.tokens)


def text_of(events: Sequence[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.index == index)


async def until(condition: Any, seconds: float = 20.0) -> None:
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, "it never came true"
        await asyncio.sleep(0.002)


def test_everybody_gets_what_they_get_alone(scheduler: Scheduler, generator: LocalGenerator) -> None:
    """Short and long prompts, greedy and drawn, more than there are rows."""
    prompts = [[5 + n] * size for n, size in enumerate((3, 20, LONG_PROMPT + 40, 7, 2 * LONG_PROMPT + 9, 2, 31))]
    params = [replace(GREEDY, temperature=float(n % 2), seed=n) for n in range(len(prompts))]
    wanted = [generator.generate([p], one)[0][0] for p, one in zip(prompts, params, strict=True)]

    async def run() -> list[list[Event]]:
        return await asyncio.gather(*(collect(submit(scheduler, p, s)) for p, s in zip(prompts, params, strict=True)))

    for events, alone, prompt in zip(asyncio.run(run()), wanted, prompts, strict=True):
        assert isinstance(events[0], Started) and events[0].prompt_tokens == len(prompt)
        assert events[-1] == Finished(index=0, reason="length", completion_tokens=12)
        assert ids_of(events) == alone.ids and text_of(events) == alone.text
    assert scheduler.stats().completion_tokens == 12 * len(prompts)
    assert scheduler.stats().prompt_tokens == sum(map(len, prompts))


def test_answers_of_one_request_share_a_prefill(scheduler: Scheduler, generator: LocalGenerator) -> None:
    params = replace(GREEDY, temperature=1.0, n=3)
    for size in (30, LONG_PROMPT + 30):
        prompt = [size % 50, *(token % 400 for token in range(30, 30 + size - 1))]
        wanted = [answer.ids for answer in generator.generate([prompt], params)[0]]
        asyncio.run(collect(submit(scheduler, [3])))
        before = scheduler._batch.prefill_tokens
        events = asyncio.run(collect(submit(scheduler, prompt, params)))
        assert [ids_of(events, index) for index in range(3)] == wanted
        assert {event.index for event in events if isinstance(event, Finished)} == {0, 1, 2}
        assert scheduler._batch.prefill_tokens - before == size - 1


def test_the_next_turn_of_a_conversation_reuses_the_last(generator: LocalGenerator) -> None:
    """The same tokens as without the cache, and only what is new is computed."""

    async def turns(scheduler: Scheduler) -> list[tuple[int, tuple[int, ...]]]:
        out, prompt = [], [9, 8, 7] * 10
        for turn in range(4):
            events = await collect(submit(scheduler, prompt))
            assert isinstance(events[0], Started)
            out.append((events[0].cached_tokens, ids_of(events)))
            prompt = [*prompt, *ids_of(events), 20 + turn, 21, 22]
        return out

    def run(prefix_bytes: int) -> list[tuple[int, tuple[int, ...]]]:
        scheduler = Scheduler(generator, prefix_bytes=prefix_bytes)
        scheduler.start()
        try:
            return asyncio.run(turns(scheduler))
        finally:
            asyncio.run(scheduler.drain(1))

    with_cache, without = run(2**20), run(0)
    assert [ids for _, ids in with_cache] == [ids for _, ids in without]
    assert [cached for cached, _ in without] == [0] * 4
    assert [cached for cached, _ in with_cache] == [0, 41, 56, 71]  # all but an answer's last token


def test_owners_take_turns(generator: LocalGenerator) -> None:
    """One asks eight times, then another once: that one is second, not ninth."""
    order: list[str] = []

    async def one(scheduler: Scheduler, owner: str, token: int) -> None:
        async for event in submit(scheduler, [token, 3], owner=owner):
            if isinstance(event, Started):
                order.append(owner)

    async def run() -> None:
        scheduler = Scheduler(generator, max_batch=1, max_waiting=20)
        tasks = []
        scheduler.start()
        for n in range(8):
            tasks.append(asyncio.create_task(one(scheduler, "many", 10 + n)))
        await until(lambda: order)
        tasks.append(asyncio.create_task(one(scheduler, "few", 50)))
        await asyncio.gather(*tasks)
        await scheduler.drain(1)

    asyncio.run(run())
    assert order.count("many") == 8 and order.index("few") < 6


def test_the_prefix_cache_tells_an_owner_nothing_of_others(scheduler: Scheduler) -> None:
    secret = [9, 8, 7] * 10

    async def cached(owner: str, *tail: int) -> int:
        started = (await collect(submit(scheduler, [*secret, *tail], owner=owner)))[0]
        assert isinstance(started, Started)
        return started.cached_tokens

    async def run() -> list[int]:
        await cached("victim", 1, 2)
        return [await cached(owner, 1, n) for owner, n in (("spy", 2), ("spy", 3), ("victim", 3), ("victim", 2))]

    found = asyncio.run(run())
    assert found[0] == 0  # a first request finds nothing, whatever others have asked
    assert min(found[1:]) >= len(secret)  # their own they find


def test_one_owner_never_holds_all_rows(generator: LocalGenerator) -> None:
    """Twenty long answers of one; another's short one starts and ends while all of them are being written."""

    async def run(scheduler: Scheduler) -> None:
        many = [asyncio.create_task(collect(submit(scheduler, [10 + n, 3], LONG, "many"))) for n in range(20)]
        await until(lambda: scheduler.stats().running == 14)
        assert scheduler.stats().waiting == 6  # 16 rows, of which two are kept free
        for owner in ("few", "other"):
            answer = await collect(submit(scheduler, [50, 3], owner=owner))
            assert isinstance(answer[-1], Finished) and not any(task.done() for task in many)
        api = asyncio.create_task(collect(submit(scheduler, [60, 3], LONG, "api")))
        await until(lambda: scheduler.stats().running == 15)
        later = asyncio.create_task(collect(submit(scheduler, [61, 3], LONG, "later")))
        await asyncio.sleep(0.05)
        assert scheduler.stats().running == 15  # the last row is for people who watch
        chat = await collect(submit(scheduler, [62, 3], owner="person", interactive=True))
        assert isinstance(chat[-1], Finished) and not any(task.done() for task in (*many, api, later))
        for task in (*many, api, later):
            task.cancel()
        await asyncio.gather(*many, api, later, return_exceptions=True)

    scheduler = Scheduler(generator, max_batch=16, max_waiting=64)
    scheduler.start()
    try:
        asyncio.run(run(scheduler))
    finally:
        asyncio.run(scheduler.drain(0))


def test_one_owner_never_holds_the_whole_queue(generator: LocalGenerator) -> None:
    def taken(scheduler: Scheduler) -> int:
        return scheduler.stats().running + scheduler.stats().waiting

    async def run(scheduler: Scheduler) -> None:
        tasks = []
        with pytest.raises(EngineBusy):
            for n in range(8 + 32):
                scheduler.refuse_when_full(1, "many")
                tasks.append(asyncio.create_task(collect(submit(scheduler, [10 + n, 3], LONG, "many"))))
                await until(lambda n=n: taken(scheduler) == n + 1)  # type: ignore[misc]
        assert 24 <= len(tasks) < 8 + 32
        scheduler.refuse_when_full(1, "few")  # raises nothing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    scheduler = Scheduler(generator, max_batch=8, max_waiting=32)
    scheduler.start()
    try:
        asyncio.run(run(scheduler))
    finally:
        asyncio.run(scheduler.drain(0))


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 32, 64])
def test_shares_leave_everybody_a_row(rows: int) -> None:
    shares = Shares(rows=rows, queue=8 * rows)
    for others in (0, 1, rows, 10 * rows):
        assert 1 <= shares.rows_of_one(others) <= rows - min(others, rows - 1)
    assert 1 <= shares.rows_for(False) <= shares.rows_for(True) == rows
    assert shares.queue_of_one < shares.queue


def test_a_full_queue_is_busy_and_says_so_at_once(scheduler: Scheduler) -> None:
    async def run() -> list[float]:
        tasks = [asyncio.create_task(collect(submit(scheduler, [5 + n, 6], LONG, str(n % 2)))) for n in range(12)]
        await until(lambda: scheduler.stats().running == 4 and scheduler.stats().waiting == 8)
        waits = []
        for _ in range(50):
            began = time.monotonic()
            with pytest.raises(EngineBusy) as caught:
                await collect(submit(scheduler, [3, 4]))
            waits.append(time.monotonic() - began)
            assert caught.value.retry_after_s >= 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: scheduler.stats().running == scheduler.stats().waiting == 0)
        return waits

    assert statistics.median(asyncio.run(run())) < 0.05


def test_leaving_a_stream_frees_its_place(scheduler: Scheduler) -> None:
    """In the batch, in the queue, and while its long prompt is being computed."""

    async def run() -> list[float]:
        waits = []
        for n in range(20):
            prompt = [5 + n] * (700 if n % 2 else 2)
            async with aclosing(submit(scheduler, prompt, LONG)) as events:  # type: ignore[type-var]
                if n % 2:
                    pending = asyncio.ensure_future(anext(events))
                    await until(lambda: scheduler._ahead is not None or pending.done())  # noqa: B023
                    pending.cancel()
                    await asyncio.gather(pending, return_exceptions=True)
                else:
                    async for event in events:
                        if isinstance(event, Delta):
                            break
            began = time.monotonic()
            await until(lambda: not scheduler._jobs and scheduler._ahead is None and not scheduler.stats().waiting)
            waits.append(time.monotonic() - began)
        return waits

    assert statistics.median(asyncio.run(run())) < 0.2
    assert scheduler.ready


def test_a_deadline_ends_an_answer_with_what_there_is(scheduler: Scheduler) -> None:
    async def run() -> list[list[Event]]:
        blockers = [asyncio.create_task(collect(submit(scheduler, [5 + n], LONG, deadline_s=0.4))) for n in range(4)]
        await until(lambda: scheduler.stats().running == 4)
        with pytest.raises(EngineBusy) as refused:  # an empty answer would be taken for the model's
            await collect(submit(scheduler, [40, 41], deadline_s=0.05))
        assert refused.value.retry_after_s >= 1
        return await asyncio.gather(*blockers)

    running = asyncio.run(run())
    ended = [events for events in running if isinstance(events[-1], Finished) and events[-1].reason == "deadline"]
    for events in ended:
        assert isinstance(events[-1], Finished)
        assert len(ids_of(events)) == events[-1].completion_tokens, "every token is in one Delta"
    assert scheduler.stats().running == 0


def test_a_long_prompt_does_not_stop_the_others(scheduler: Scheduler) -> None:
    """Tokens of a running answer and a short newcomer come between the parts of a long prompt."""

    async def run() -> None:
        async with aclosing(submit(scheduler, [5, 6], LONG)) as running:  # type: ignore[type-var]
            assert isinstance(await anext(running), Started)
            long = submit(scheduler, [n % 300 for n in range(4 * LONG_PROMPT - 40)], GREEDY, "b")
            async with aclosing(long):  # type: ignore[type-var]
                first = asyncio.ensure_future(anext(long))
                await until(lambda: scheduler._ahead is not None)
                short = await collect(submit(scheduler, [9, 9], replace(GREEDY, max_new_tokens=1), "c"))
                assert isinstance(short[-1], Finished) and not first.done()
                assert isinstance(await first, Started)

    asyncio.run(run())


def test_a_crash_reaches_every_stream(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_CRASHES", 0)
    scheduler = Scheduler(generator, max_batch=2)
    scheduler.start()

    async def run(error: Exception) -> list[Any]:
        tasks = [asyncio.create_task(collect(submit(scheduler, [5 + n, 6], LONG))) for n in range(4)]
        await until(lambda: scheduler.stats().running == 2)

        def broken(*_: Any) -> None:
            raise error

        monkeypatch.setattr(scheduler._batch, "step", broken)
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        with pytest.raises(EngineGone, match="stopped"):
            await collect(submit(scheduler, [3]))
        with pytest.raises(EngineGone):
            await scheduler.call(lambda: 1)
        return found

    assert all(isinstance(e, EngineGone) for e in asyncio.run(run(RuntimeError("out of memory"))))
    assert not scheduler.ready


def test_the_model_begins_anew_after_a_crash(generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_CRASHES", 2)
    scheduler = Scheduler(generator, max_batch=2)
    registry = EngineRegistry(guard=lambda engine: engine)
    scheduler.name = "tiny"  # type: ignore[attr-defined]
    registry.add(scheduler)  # type: ignore[arg-type]
    scheduler.start()

    def broken(*_: Any) -> None:
        raise RuntimeError("out of memory")

    async def run() -> None:
        expected = await collect(submit(scheduler, [3]))
        for crash in range(3):
            monkeypatch.setattr(scheduler._batch, "step", broken)
            with pytest.raises(EngineGone, match="out of memory"):
                await asyncio.wait_for(collect(submit(scheduler, [3])), 20)
            if crash < 2:
                await until(lambda: scheduler.ready)
                assert len(await asyncio.wait_for(collect(submit(scheduler, [3])), 20)) == len(expected)
                assert not registry.dead()
        assert not scheduler.ready and registry.dead() == ["tiny"]
        await scheduler.drain(0)

    asyncio.run(run())


@pytest.mark.parametrize("where", ["admit", "prefill_ahead"])
def test_a_crash_while_entering_reaches_the_stream(
    where: str, generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_CRASHES", 0)
    scheduler = Scheduler(generator)
    scheduler.start()

    def broken(*_: Any) -> None:
        raise ModelError("damaged")

    async def run() -> None:
        await collect(submit(scheduler, [3]))
        monkeypatch.setattr(scheduler._batch, where, broken)
        with pytest.raises(ModelError, match="damaged"):
            await asyncio.wait_for(collect(submit(scheduler, [3] * (LONG_PROMPT + 9 if where != "admit" else 3))), 20)

    asyncio.run(run())
    assert not scheduler.ready


def test_the_thread_that_computes_ends_when_there_is_nothing_to_do(
    generator: LocalGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "IDLE_S", 0.01)
    scheduler, others = Scheduler(generator, max_batch=2), set(threading.enumerate())

    def computing() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "computing" and one not in others]

    scheduler.start()

    async def run() -> None:
        for _ in range(3):
            assert len(ids_of(await collect(submit(scheduler, [5, 6])))) == 12
            await until(lambda: not computing())
            assert scheduler.ready
        await scheduler.drain(5)

    asyncio.run(run())
    assert not scheduler._thread.is_alive() and not computing()


def test_drain_finishes_what_runs_and_takes_nothing_new(generator: LocalGenerator) -> None:
    scheduler = Scheduler(generator, max_batch=2)
    scheduler.start()

    async def run() -> None:
        tasks = [asyncio.create_task(collect(submit(scheduler, [5 + n, 6]))) for n in range(5)]
        await until(lambda: scheduler.stats().running)
        draining = asyncio.create_task(scheduler.drain(30))
        await asyncio.sleep(0)
        with pytest.raises(EngineGone):
            await collect(submit(scheduler, [3]))
        for events in await asyncio.gather(*tasks):
            assert isinstance(events[-1], Finished) and len(ids_of(events)) == 12
        await draining

    asyncio.run(run())
    assert not scheduler._thread.is_alive()


def test_a_reader_whose_loop_is_gone_does_no_harm(scheduler: Scheduler) -> None:
    loop = asyncio.new_event_loop()
    events = submit(scheduler, [5, 6], LONG)
    assert isinstance(loop.run_until_complete(anext(events)), Started)  # type: ignore[arg-type]
    loop.close()

    async def run() -> list[Event]:
        await until(lambda: not scheduler._jobs)
        return await collect(submit(scheduler, [7, 8]))

    assert len(ids_of(asyncio.run(run()))) == 12


def test_answers_wait_for_cache_memory(generator: LocalGenerator) -> None:
    """Two long answers do not fit beside one another, so they come one after the other."""
    one = 2 * 2 * 2 * 8 * 4 * 1024  # bytes of 1024 positions: two kinds, layers, heads, 8 features in fp32
    scheduler = Scheduler(generator, cache_bytes=2 * one + 1)  # in fp32 a step never has fewer than two rows
    most = 0

    async def one_of(token: int) -> None:
        nonlocal most
        async for _ in submit(scheduler, [token] * 1000):
            most = max(most, scheduler.stats().running)

    async def run() -> None:
        scheduler.start()
        await asyncio.gather(*(one_of(5 + n) for n in range(4)))
        await scheduler.drain(5)

    asyncio.run(run())
    assert most == 2


def test_the_cache_is_only_as_large_as_its_answers_need(scheduler: Scheduler) -> None:
    async def run() -> None:
        await collect(submit(scheduler, [4] * 900))
        async with aclosing(submit(scheduler, [5, 6], LONG)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Delta):
                    break
            cache = scheduler._batch._cache
            assert cache is not None and cache.columns < 900 and cache.rows == 2

    asyncio.run(run())


def test_a_constraint_that_breaks_ends_its_request_with_an_error(scheduler: Scheduler) -> None:
    """Both answers of the request end; a neighbour's is complete."""
    grammar = Constraint(kind="lark", value='start: s\ns: s s | "a" | "b" | s s s')
    never_ends = tuple((token, -100.0) for token in scheduler._generator.tokenizer.stop_ids)
    broken = SamplingParams(max_new_tokens=400, temperature=1.0, n=2, constraint=grammar, logit_bias=never_ends)
    plain = SamplingParams(max_new_tokens=40, temperature=0, stop_ids=frozenset())

    async def run() -> list[Any]:
        both = (collect(submit(scheduler, [5, 6], broken)), collect(submit(scheduler, [7, 8], plain, owner="other")))
        return await asyncio.gather(*both, return_exceptions=True)

    error, events = asyncio.run(run())
    assert isinstance(error, ConfigError) and "lark: cannot be followed any further" in str(error)
    assert events[-1] == Finished(index=0, reason="length", completion_tokens=40)
    assert scheduler.stats().running == 0


def test_a_step_that_stalls_shows(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ready` is what a supervisor looks at; the request itself is answered once the step ends."""
    monkeypatch.setattr("chatwright.serve.scheduler.STALLED_S", 0.05)
    going, states = threading.Event(), []

    async def run() -> None:
        call = asyncio.ensure_future(scheduler.call(lambda: going.wait(30)))
        while scheduler.ready:
            await asyncio.sleep(0.01)
        going.set()
        assert await call
        while not scheduler.ready:
            await asyncio.sleep(0.01)
        states.append("ready again")

    asyncio.run(asyncio.wait_for(run(), 30))
    assert states


def test_a_constraint_and_text_across_tokens(scheduler: Scheduler) -> None:
    """Bytes of a character come in several tokens: pieces of text are whole, and tokens are neither lost nor doubled."""
    params = SamplingParams(max_new_tokens=30, temperature=1.0, constraint=Constraint(kind="script", value="Han"), seed=3)
    events = asyncio.run(collect(submit(scheduler, [5, 6], params)))
    assert isinstance(events[-1], Finished) and events[-1].completion_tokens == len(ids_of(events))
    assert text_of(events) and "\ufffd" not in text_of(events)
    assert len([event for event in events if isinstance(event, Delta)]) < len(ids_of(events))
