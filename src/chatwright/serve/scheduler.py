"""One thread that runs the model for all requests: continuous batching, turns between owners, cancelling, deadlines.

Requests come from the event loop, wait in a queue per owner, and enter the batch as rows become free. Owners take turns,
interactive requests first. No owner gets all rows or all places in the queue (`Shares`), so others never wait for the end
of a large request. A long prompt is computed in parts between the steps of the answers that are being written. Whatever
happens to the model's thread, every stream ends with an event or an error.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from chatwright.errors import ChatwrightError, ConfigError
from chatwright.generation.api import SamplingParams
from chatwright.generation.batch import Answer
from chatwright.generation.constrain import Matcher
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
from chatwright.serve.model_thread import run_into, step_back
from chatwright.serve.shares import Shares

log = logging.getLogger(__name__)
PREPARING = 2  # threads that tokenize prompts
STALLED_S = 60.0  # of one step or call; a part of a prompt takes a few seconds on a slow machine
IDLE_S = 0.5  # after which the thread that computes ends; the next one costs nothing noticeable
MAX_CRASHES = 3  # within CRASH_WINDOW_S, after which the model stays stopped
CRASH_WINDOW_S = 600.0
LONG_PROMPT = 256  # tokens; longer ones are computed in parts
ENTERING_TOKENS = 512  # prompts that enter in one turn: more at once are computed faster, but all others wait for them
Result = TypeVar("Result")


@dataclass(eq=False)
class _Job:
    """The answers to one request."""

    owner: str
    answers: list[Answer]
    started: Started
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event | BaseException]
    """Read by `loop`."""
    ends_at: float
    """Deadline on the monotonic clock."""
    interactive: bool
    """True when a person watches it being written."""
    open: int
    """Answers not finished yet."""
    seen: bool = False
    """`Started` has been sent."""
    pending: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    """Tokens whose text is not certain yet, by answer."""


class Scheduler:
    """Runs a generator in a thread of its own. `start` it, then `submit` from an event loop."""

    def __init__(
        self,
        generator: LocalGenerator,
        *,
        max_batch: int = 32,
        max_waiting: int = 256,
        prefix_bytes: int = 512 * 2**20,
        cache_bytes: int = 2 * 2**30,
    ) -> None:
        """
        Args:
            max_batch: answers written at the same time.
            max_waiting: answers that may wait beside those; more are refused with EngineBusy.
            prefix_bytes: memory for the keys and values of finished answers.
            cache_bytes: memory for those of answers being written; answers wait rather than exceed it (one always runs).
        """
        self._generator, self.max_batch, self.max_waiting = generator, max_batch, max_waiting
        self._shares = Shares(rows=max_batch, queue=max_waiting)
        self._cache_bytes = cache_bytes
        self._prefixes = PrefixCache(prefix_bytes)
        self._changed = threading.Condition()
        self._waiting: OrderedDict[tuple[str, bool], deque[tuple[_Job, Answer]]] = OrderedDict()
        """Queues by owner and whether interactive, in the order of turns."""
        self._num_waiting = 0
        self._jobs: dict[Answer, _Job] = {}
        """Answers in the batch."""
        self._cancelled: list[_Job] = []
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ahead: tuple[_Job, Answer, int] | None = None
        """A long prompt that is being computed, and how far."""
        self._outbox: list[tuple[_Job, Event | BaseException]] = []
        self._preparing = ThreadPoolExecutor(PREPARING, thread_name_prefix="prompts")
        self._working_since: float | None = None
        """Since when the model's thread has been in one step or call, on the monotonic clock."""
        self._loaded, self._closing, self._failed = False, False, ""
        self._crashed_at: list[float] = []
        self._prompt_tokens = self._completion_tokens = 0
        self._seconds_per_answer = 1.0
        self._thread = threading.Thread(target=self._main, name="model", daemon=True)

    # ---- from the event loop ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; the model's weights are read there."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether requests are taken and answered: False also while one step takes longer than STALLED_S."""
        since = self._working_since
        stalled = since is not None and time.monotonic() - since > STALLED_S
        return self._thread.is_alive() and not self._closing and not self._failed and not stalled

    @property
    def dead(self) -> bool:
        """True when the model has crashed for good."""
        return bool(self._failed) and not self._closing

    async def submit(
        self,
        owner: str,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        started: Started,
        deadline_s: float,
        matcher: Matcher | None = None,
        *,
        interactive: bool = False,
    ) -> AsyncIterator[Event]:
        """Events of one request. Leaving the iterator early frees its places in queue and batch. `matcher`: of the
        constraint in `params`, compiled by a ConstraintPool. EngineBusy when its deadline comes before its first token."""
        self.refuse_when_full(params.n, owner)
        answers = await self.prepare(self._generator.prepare, prompt_ids, params, matcher)
        for answer in answers:
            answer.owner = owner
        job = _Job(
            owner=owner,
            answers=answers,
            started=started,
            loop=asyncio.get_running_loop(),
            events=asyncio.Queue(),
            ends_at=time.monotonic() + deadline_s,
            interactive=interactive,
            open=len(answers),
        )
        self._enqueue(job)
        try:
            unfinished = len(answers)
            while unfinished:
                event = await job.events.get()
                if isinstance(event, BaseException):
                    raise event
                unfinished -= isinstance(event, Finished)
                yield event
        finally:
            with self._changed:
                if job.open:
                    self._cancelled.append(job)
                    self._changed.notify()

    async def prepare(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function that prepares a request, in threads of the engine: those of asyncio's default executor wait for
        databases and other servers."""
        return await asyncio.get_running_loop().run_in_executor(self._preparing, function, *arguments)

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
            prefix_bytes=self._prefixes.num_bytes,
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
        self._preparing.shutdown(wait=False)

    def refuse_when_full(self, num_answers: int, owner: str) -> None:
        """Raise what `submit` would for so many more answers: EngineBusy, EngineGone. Costs nothing, so ask first."""
        self._refuse_when_gone()
        own = sum(len(self._waiting.get((owner, interactive), ())) for interactive in (False, True))
        if (
            self._num_waiting + len(self._jobs) + num_answers > self.max_waiting + self.max_batch
            or own + num_answers > self._shares.queue_of_one + self.max_batch
        ):
            raise EngineBusy(self._seconds_to_wait())

    def _seconds_to_wait(self) -> float:
        return max(1.0, round(self._num_waiting / self.max_batch * self._seconds_per_answer))

    def _refuse_when_gone(self) -> None:
        if self._failed or self._closing or not self._thread.is_alive():
            raise EngineGone(self._failed or "the model is not running; it is being replaced or shut down")

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            self.refuse_when_full(len(job.answers), job.owner)
            self._waiting.setdefault((job.owner, job.interactive), deque()).extend((job, answer) for answer in job.answers)
            self._num_waiting += len(job.answers)
            self._changed.notify()

    # ---- in the model's thread -------------------------------------------------------------------------

    def _main(self) -> None:
        """Threads that compute, one after another. Each ends when nobody asks for anything, and with it its OpenMP helpers,
        which would slow those of another model (docs/methods/serving.md)."""
        while True:
            computing = threading.Thread(target=self._compute, name="computing", daemon=True)
            computing.start()
            computing.join()
            with self._changed:
                while not self._has_work:
                    if self._closing or self._failed:
                        return
                    self._changed.wait()

    def _compute(self) -> None:
        step_back()
        try:
            if not self._loaded:
                self._batch = self._generator.new_batch(self.max_batch, self._prefixes, cache_bytes=self._cache_bytes)
                self._loaded = True
            while self._turn():
                self._deliver()
        except BaseException as error:
            self._fail(f"the model stopped: {type(error).__name__}: {error}", error)
            if self._loaded and isinstance(error, Exception):
                self._restart(error)

    def _restart(self, error: Exception) -> None:
        """Begin with an empty batch after a crash, unless crashes repeat: then the model stays stopped."""
        now = time.monotonic()
        with self._changed:
            self._crashed_at = [*(at for at in self._crashed_at if now - at < CRASH_WINDOW_S), now]
            if len(self._crashed_at) > MAX_CRASHES or self._closing:
                return
            self._prefixes = PrefixCache(self._prefixes.max_bytes)
            self._loaded, self._failed = False, ""
        log.error("the model crashed and begins anew; running answers were ended", exc_info=error)

    @property
    def _has_work(self) -> bool:
        return bool(self._num_waiting or self._jobs or self._ahead or self._calls or self._cancelled)

    def _turn(self) -> bool:
        """One step for everybody; False when there was nothing to do for a while, and at the end."""
        self._working_since = None
        with self._changed:
            while not self._has_work:
                if self._closing or self._failed or not self._changed.wait(IDLE_S):
                    return False
            self._working_since = time.monotonic()
            cancelled, self._cancelled = self._cancelled, []
            calls = [self._calls.popleft() for _ in range(len(self._calls))]
        if self._failed:
            self._fail(self._failed, None)
            return False
        for job in cancelled:
            self._end(job)
        for function, future in calls:
            run_into(function, future)
        self._end_late()
        self._admit()
        if self._jobs:
            self._step()
        return True

    def _admit(self) -> None:
        """Let answers in while there is room: short prompts at once, of a long one the next part."""
        self._compute_ahead()
        entering: list[tuple[_Job, Answer]] = []
        budget = ENTERING_TOKENS
        while budget > 0 and (taken := self._next([answer for _, answer in entering])) is not None:
            if self._is_long(taken[1]):
                self._ahead = (*taken, 0)
                continue
            entering.append(taken)
            budget -= taken[1].length
        if entering:
            self._jobs |= {answer: job for job, answer in entering}  # first, so that none is forgotten if this fails
            self._batch.admit([answer for _, answer in entering])
            for job, answer in entering:
                self._enter(job, answer)

    def _compute_ahead(self) -> None:
        if self._ahead is None:
            return
        job, answer, done = self._ahead
        done = self._batch.prefill_ahead(answer, done)
        self._ahead = (job, answer, done)
        if done >= answer.length:
            self._batch.admit_ahead(answer)
            self._enter(job, answer)
            self._ahead = None

    def _is_long(self, answer: Answer) -> bool:
        """Whether its prompt is to be computed in parts."""
        return answer.length > LONG_PROMPT and all(a.prompt_ids != answer.prompt_ids for a in self._batch.answers)

    def _next(self, entering: list[Answer]) -> tuple[_Job, Answer] | None:
        """The next answer of the owner whose turn it is; None when none may enter. Long prompts come one by one."""
        reserved = [*entering] if self._ahead is None else [*entering, self._ahead[1]]
        taken_rows = Counter(answer.owner for answer in [*self._jobs, *reserved])
        with self._changed:
            owners = {owner for owner, _ in self._waiting}
            turns = sorted(self._waiting.items(), key=lambda item: not item[0][1])  # stable: interactive first
            for (owner, interactive), queue in turns:
                answer = queue[0][1]
                if self._ahead is not None and self._is_long(answer):
                    continue
                if taken_rows.total() >= self._shares.rows_for(interactive):
                    continue
                if taken_rows[owner] >= self._shares.rows_of_one(len(owners - {owner})):
                    continue
                if not self._batch.fits([*reserved, answer]):
                    return None  # those behind wait too: a large answer would never get in otherwise
                taken = queue.popleft()
                self._num_waiting -= 1
                del self._waiting[owner, interactive]
                if queue:
                    self._waiting[owner, interactive] = queue  # behind the others
                return taken
        return None

    def _enter(self, job: _Job, answer: Answer) -> None:
        self._jobs[answer] = job
        if not job.seen:
            job.seen = True
            self._prompt_tokens += job.started.prompt_tokens
            self._send(job, replace(job.started, cached_tokens=answer.cached))

    def _send(self, job: _Job, event: Event | BaseException) -> None:
        self._outbox.append((job, event))

    def _deliver(self) -> None:
        """Hand over the events of a turn, all of an event loop at once: waking it is what costs."""
        outbox, self._outbox = self._outbox, []
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Event | BaseException]]] = {}
        for job, event in outbox:
            by_loop.setdefault(job.loop, []).append((job, event))
        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_hand_over, items)
            except RuntimeError:  # the loop is closed: nobody reads these any more
                with self._changed:
                    self._cancelled += {id(job): job for job, _ in items if job.open}.values()

    def _step(self) -> None:
        began = time.monotonic()
        finished = self._batch.step()
        for answer in [*self._batch.answers, *finished]:
            self._tell(answer)
        broken = [answer for answer in finished if answer.broken]
        for answer in finished:
            if answer not in broken:
                self._finish(answer, answer.finish or "stop")
        self._break(broken)
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
            self._send(job, Delta(index=index, text=text, tokens=tuple(held)))
            job.pending[index] = []

    def _finish(self, answer: Answer, reason: Any) -> None:
        job = self._jobs.pop(answer)
        job.open -= 1
        self._send(job, Finished(index=answer.place[1], reason=reason, completion_tokens=len(answer.ids)))

    def _break(self, answers: list[Answer]) -> None:
        """End the requests of answers whose constraint cannot be followed any further, with an error."""
        jobs = {id(job): (job, answer) for answer in answers for job in [self._jobs.pop(answer)]}
        for job, answer in jobs.values():
            self._end(job)
            kind = answer.params.constraint.kind if answer.params.constraint is not None else "constraint"
            self._send(job, ConfigError(f"{kind}: cannot be followed any further: {answer.broken}"))

    def _end_late(self) -> None:
        now = time.monotonic()
        late = {id(job): job for job in self._jobs.values() if job.ends_at < now}
        if self._ahead is not None and self._ahead[0].ends_at < now:
            late[id(self._ahead[0])] = self._ahead[0]
        with self._changed:
            for queue in self._waiting.values():
                late |= {id(job): job for job, _ in queue if job.ends_at < now}
        for job in late.values():
            open_answers = [a for a in job.answers if a.finish is None]
            self._end(job)
            if not any(answer.ids for answer in job.answers):
                self._send(job, EngineBusy(self._seconds_to_wait()))  # an empty answer would count as one
                continue
            for answer in open_answers:
                index = answer.place[1]
                if answer.ids:  # what was held back until more is known comes now
                    answer.finish = "length"
                    held = tuple(job.pending.get(index, ()))
                    if (text := answer.take_text()) or held:
                        self._send(job, Delta(index=index, text=text, tokens=held))
                self._send(job, Finished(index=index, reason="deadline", completion_tokens=len(answer.ids)))

    def _end(self, job: _Job) -> None:
        """Take a request out of queue and batch."""
        with self._changed:
            for key, queue in list(self._waiting.items()):
                kept = deque(item for item in queue if item[0] is not job)
                self._num_waiting -= len(queue) - len(kept)
                if kept:
                    self._waiting[key] = kept
                else:
                    del self._waiting[key]
        if self._ahead is not None and self._ahead[0] is job:
            self._ahead = None
            self._batch.forget_ahead()
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
            self._send(job, error if isinstance(error, ChatwrightError) else EngineGone(reason))
        for _, future in calls:
            future.set_exception(EngineGone(reason))
        self._jobs.clear()
        self._ahead = None
        self._deliver()


def _hand_over(items: list[tuple[_Job, Event | BaseException]]) -> None:
    for job, event in items:
        job.events.put_nowait(event)
