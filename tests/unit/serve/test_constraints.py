"""The pool that compiles constraints: kept by content, shared, fair between owners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chatwright.errors import ConfigError
from chatwright.generation.api import Constraint
from chatwright.generation.constrain import ConstraintCompiler
from chatwright.generation.grammar_probe import Probe
from chatwright.serve.constraints import MAX_WAITING, ConstraintPool
from chatwright.serve.engine import EngineBusy, EngineGone


def plain(text: str) -> Constraint:
    return Constraint(kind="regex", value=text)


@pytest.fixture
def pool(tokenizer: Any) -> Iterator[ConstraintPool]:
    made = ConstraintPool(ConstraintCompiler(tokenizer, tokenizer.vocab_size))
    yield made
    made.close()


class SlowProbe:
    """Stands in for the processes: constraints that hold "slow" wait until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()
        self.began = threading.Semaphore(0)
        monkeypatch.setattr(Probe, "refusal", lambda _, __, constraint: self._refusal(constraint))

    def _refusal(self, constraint: Constraint) -> str:
        self.asked.append(constraint.value)
        self.began.release()
        if "slow" in constraint.value:
            self.go.wait(60)
        return "regex: refused" if "bad" in constraint.value else ""


def test_a_matcher_follows_its_constraint(pool: ConstraintPool, tokenizer: Any) -> None:
    matcher = asyncio.run(pool.matcher("o", plain("ab")))
    (a,) = tokenizer.encode("a")
    assert matcher.mask().nonzero()[:, 0].tolist()[:1] and bool(matcher.mask()[a])
    matcher.accept(a)
    again = asyncio.run(pool.matcher("o", plain("ab")))
    assert not again.complete and bool(again.mask()[a]), "each one begins at the beginning"


def test_refusals_are_kept_by_content(pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = SlowProbe(monkeypatch)
    for owner in ("one", "other"):
        with pytest.raises(ConfigError, match="regex: refused"):
            asyncio.run(pool.matcher(owner, plain("bad")))
        asyncio.run(pool.matcher(owner, plain("good")))
    assert probe.asked == ["bad", "good"]


def test_a_constraint_is_compiled_once_for_all_who_wait(pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = SlowProbe(monkeypatch)

    async def run() -> None:
        waiting = [asyncio.ensure_future(pool.matcher(owner, plain("slow"))) for owner in ("a", "b", "c")]
        await asyncio.to_thread(probe.began.acquire, timeout=30)
        probe.go.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert probe.asked == ["slow"]


def test_an_owner_with_many_slow_constraints_holds_one_of_two_threads(
    pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = SlowProbe(monkeypatch)

    async def run() -> None:
        hostile = [asyncio.ensure_future(pool.matcher("bad one", plain(f"slow{n}"))) for n in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(EngineBusy):
            await pool.matcher("bad one", plain("slow more"))
        for n in range(3):
            await asyncio.wait_for(pool.matcher(f"good {n}", plain(f"x{n}")), 30)
        assert sum(text.startswith("slow") for text in probe.asked) == 1
        probe.go.set()
        await asyncio.gather(*hostile)

    asyncio.run(run())


def test_who_has_used_least_comes_first(pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both threads taken by owners who were slow before, a new one is next, however many wait."""
    probe = SlowProbe(monkeypatch)
    pool._used_s.update({"a": 9.0, "b": 8.0, "c": 7.0})

    async def run() -> None:
        running = [asyncio.ensure_future(pool.matcher(owner, plain(f"slow {owner}"))) for owner in "ab"]
        await asyncio.to_thread(probe.began.acquire, timeout=30)
        await asyncio.to_thread(probe.began.acquire, timeout=30)
        later = [asyncio.ensure_future(pool.matcher("c", plain(f"c{n}"))) for n in range(5)]
        later.append(asyncio.ensure_future(pool.matcher("new", plain("new"))))
        await asyncio.sleep(0)
        probe.go.set()
        await asyncio.gather(*running, *later)

    asyncio.run(run())
    assert probe.asked[2] == "new"


def test_constraints_of_those_who_left_are_not_compiled(pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = SlowProbe(monkeypatch)

    async def run() -> None:
        first = asyncio.ensure_future(pool.matcher("a", plain("slow")))
        await asyncio.to_thread(probe.began.acquire, timeout=30)
        second = asyncio.ensure_future(pool.matcher("a", plain("left")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        probe.go.set()
        await first
        await pool.matcher("a", plain("last"))

    asyncio.run(run())
    assert probe.asked == ["slow", "last"]


def test_closing_ends_what_waits(pool: ConstraintPool, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = SlowProbe(monkeypatch)

    async def run() -> None:
        waiting = [asyncio.ensure_future(pool.matcher("a", plain(text))) for text in ("slow", "next")]
        await asyncio.to_thread(probe.began.acquire, timeout=30)
        pool.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, EngineGone) for result in results), results
        with pytest.raises(EngineGone):
            await pool.matcher("a", plain("new"))

    asyncio.run(run())
    probe.go.set()
