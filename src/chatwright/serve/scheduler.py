"""One thread that runs the model for everybody: continuous batching, turns between owners, cancelling, deadlines.

Requests come from the event loop, wait in a queue per owner, and enter the batch as rows become free; owners take turns,
so that one who asks a hundred questions does not keep another's waiting. A long prompt is computed in parts between the
steps of the answers that are being written. Whatever happens to the model's thread, every stream ends with an event or an
error.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chatwright.errors import ChatwrightError
from chatwright.generation.api import SamplingParams
from chatwright.generation.batch import Answer
from chatwright.generation.local import LocalGenerator
from chatwright.generation.prefix_cache import PrefixCache
from chatwright.serve.engine import (
    Delta,
    EngineBusy,
    EngineGone,
    EngineStats,
    Event,
    Finished,
    Started,
    TokenLogprob,
)

LONG_PROMPT = 256  # tokens; longer ones are computed in parts
Result = TypeVar("Result")


@dataclass(eq=False)
class _Job:
    """The answers to one request."""

    owner: str
    answers: list[Answer]
    started: Started
    send: Callable[[Event | BaseException], None]
    ends_at: float
    """Deadline on the monotonic clock."""
    open: int
    """Answers not finished yet."""
    seen: bool = False
    """`Started` has been sent."""
    pending: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    """Tokens whose text is not certain yet, by answer."""


class Scheduler:
    """Runs a generator in a thread of its own. `start` it, then `submit` from an event loop."""

    def __init__(
        self, generator: LocalGenerator, *, max_batch: int = 32, max_waiting: int = 256, prefix_bytes: int = 512 * 2**20
    ) -> None:
        """
        Args:
            max_batch: answers written at the same time.
            max_waiting: answers that may wait; more are refused with EngineBusy.
            prefix_bytes: memory for the keys and values of finished answers.
        """
        self._generator, self.max_batch, self.max_waiting = generator, max_batch, max_waiting
        self._prefixes = PrefixCache(prefix_bytes)
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[tuple[_Job, Answer]]] = OrderedDict()
        self._num_waiting = 0
        self._jobs: dict[Answer, _Job] = {}
        """Answers in the batch."""
        self._cancelled: list[_Job] = []
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ahead: tuple[_Job, Answer, int] | None = None
        """A long prompt that is being computed, and how far."""
        self._closing, self._failed = False, ""
        self._prompt_tokens = self._completion_tokens = 0
        self._seconds_per_answer = 1.0
        self._thread = threading.Thread(target=self._main, name="model", daemon=True)

    # ---- from the event loop ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; the model's weights are read there."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closing and not self._failed

    async def submit(
        self, owner: str, prompt_ids: Sequence[int], params: SamplingParams, started: Started, deadline_s: float
    ) -> AsyncIterator[Event]:
        """Events of one request. Leaving the iterator early frees its places in queue and batch."""
        answers = self._generator.prepare(prompt_ids, params)
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event | BaseException]()

        def send(event: Event | BaseException) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        ends_at = time.monotonic() + deadline_s
        job = _Job(owner=owner, answers=answers, started=started, send=send, ends_at=ends_at, open=len(answers))
        self._enqueue(job)
        try:
            unfinished = len(answers)
            while unfinished:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                unfinished -= isinstance(event, Finished)
                yield event
        finally:
            with self._changed:
                if job.open:
                    self._cancelled.append(job)
                    self._changed.notify()

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run something else on the model between two steps."""
        future: Future[Result] = Future()
        with self._changed:
            self._refuse_when_gone()
            self._calls.append((function, future))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def stats(self) -> EngineStats:
        """Counts now and since the start."""
        return EngineStats(
            waiting=self._num_waiting,
            running=len(self._jobs),
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cached_tokens=self._prefixes.hit_tokens,
        )

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, wait for what runs and waits, at most so long; then end the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        ends_at = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < ends_at:
            await asyncio.sleep(0.02)
        with self._changed:
            self._failed = self._failed or "the server is shutting down"
            self._changed.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 30.0)

    def _refuse_when_gone(self) -> None:
        if self._failed or self._closing or not self._thread.is_alive():
            raise EngineGone(self._failed or "the model is not running; it is being replaced or shut down")

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            self._refuse_when_gone()
            if self._num_waiting + len(job.answers) > self.max_waiting:
                ahead = self._num_waiting / self.max_batch
                raise EngineBusy(max(1.0, round(ahead * self._seconds_per_answer)))
            self._waiting.setdefault(job.owner, deque()).extend((job, answer) for answer in job.answers)
            self._num_waiting += len(job.answers)
            self._changed.notify()

    # ---- in the model's thread -------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._batch = self._generator.new_batch(self.max_batch, self._prefixes)
            while self._turn():
                pass
        except BaseException as error:
            self._fail(f"the model stopped: {type(error).__name__}: {error}", error)

    def _turn(self) -> bool:
        """One step for everybody; False when the thread is to end."""
        with self._changed:
            while not (self._num_waiting or self._jobs or self._ahead or self._calls or self._cancelled):
                if self._closing or self._failed:
                    return False
                self._changed.wait()
            cancelled, self._cancelled = self._cancelled, []
            calls = [self._calls.popleft() for _ in range(len(self._calls))]
        if self._failed:
            self._fail(self._failed, None)
            return False
        for job in cancelled:
            self._end(job)
        for function, future in calls:
            _run(function, future)
        self._end_late()
        self._admit()
        if self._jobs:
            self._step()
        return True

    def _admit(self) -> None:
        """Let answers in while rows are free: short prompts at once, of a long one the next part."""
        if self._ahead is not None:
            job, answer, done = self._ahead
            done = self._batch.prefill_ahead(answer, done)
            self._ahead = (job, answer, done)
            if done < answer.length:
                return
            self._ahead = None
            self._batch.admit_ahead(answer)
            self._enter(job, answer)
        budget = LONG_PROMPT
        while budget > 0 and self._batch.free and (taken := self._next()) is not None:
            job, answer = taken
            if answer.length > LONG_PROMPT and not any(a.prompt_ids == answer.prompt_ids for a in self._batch.answers):
                self._ahead = (job, answer, 0)
                return
            self._batch.admit([answer])
            self._enter(job, answer)
            budget -= answer.length

    def _next(self) -> tuple[_Job, Answer] | None:
        """The next answer of the owner whose turn it is."""
        with self._changed:
            if not self._waiting:
                return None
            owner, queue = next(iter(self._waiting.items()))
            taken = queue.popleft()
            self._num_waiting -= 1
            del self._waiting[owner]
            if queue:
                self._waiting[owner] = queue  # behind the others
            return taken

    def _enter(self, job: _Job, answer: Answer) -> None:
        self._jobs[answer] = job
        if not job.seen:
            job.seen = True
            self._prompt_tokens += job.started.prompt_tokens
            job.send(job.started)

    def _step(self) -> None:
        began = time.monotonic()
        finished = self._batch.step()
        for answer in [*self._batch.answers, *finished]:
            self._tell(answer)
        for answer in finished:
            self._finish(answer, answer.finish or "stop")
        if finished:
            longest = max(len(answer.ids) for answer in finished)
            self._seconds_per_answer = 0.9 * self._seconds_per_answer + 0.1 * longest * (time.monotonic() - began)

    def _tell(self, answer: Answer) -> None:
        """Send what became certain with an answer's new token."""
        job, index = self._jobs[answer], answer.place[1]
        self._completion_tokens += 1
        held = job.pending.setdefault(index, [])
        top = answer.top_logprobs[-1] if answer.top_logprobs else ()
        held.append(TokenLogprob(id=answer.ids[-1], logprob=answer.logprobs[-1], top=top))
        text = answer.take_text()
        if text or answer.finish is not None:
            job.send(Delta(index=index, text=text, tokens=tuple(held)))
            job.pending[index] = []

    def _finish(self, answer: Answer, reason: Any) -> None:
        job = self._jobs.pop(answer)
        job.open -= 1
        job.send(Finished(index=answer.place[1], reason=reason, completion_tokens=len(answer.ids)))

    def _end_late(self) -> None:
        now = time.monotonic()
        late = {id(job): job for job in self._jobs.values() if job.ends_at < now}
        with self._changed:
            for queue in self._waiting.values():
                late |= {id(job): job for job, _ in queue if job.ends_at < now}
        for job in late.values():
            open_answers = [a for a in job.answers if a.finish is None]
            self._end(job)
            if not job.seen:
                job.send(job.started)
            for answer in open_answers:
                job.send(Finished(index=answer.place[1], reason="deadline", completion_tokens=len(answer.ids)))

    def _end(self, job: _Job) -> None:
        """Take a request out of queue and batch."""
        with self._changed:
            for owner, queue in list(self._waiting.items()):
                kept = deque(item for item in queue if item[0] is not job)
                self._num_waiting -= len(queue) - len(kept)
                if kept:
                    self._waiting[owner] = kept
                else:
                    del self._waiting[owner]
        if self._ahead is not None and self._ahead[0] is job:
            self._ahead = None
        for answer in [answer for answer, its in self._jobs.items() if its is job]:
            self._batch.drop(answer)
            del self._jobs[answer]
        job.open = 0

    def _fail(self, reason: str, error: BaseException | None) -> None:
        """End every stream with an error."""
        with self._changed:
            self._failed = reason
            waiting = [job for queue in self._waiting.values() for job, _ in queue]
            calls, self._calls = list(self._calls), deque()
            self._waiting.clear()
            self._num_waiting = 0
        ahead = [self._ahead[0]] if self._ahead is not None else []
        for job in {id(j): j for j in [*waiting, *self._jobs.values(), *ahead]}.values():
            job.open = 0
            job.send(error if isinstance(error, ChatwrightError) else EngineGone(reason))
        for _, future in calls:
            future.set_exception(EngineGone(reason))
        self._jobs.clear()
        self._ahead = None


def _run(function: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
