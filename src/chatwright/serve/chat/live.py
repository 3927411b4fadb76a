"""Answers while they are written. They live apart from the requests that began them: a closed page loses nothing, and
only a stop, a deletion or the end of the server ends one early.

Everybody who follows an answer gets all its events from the beginning, or after a given one. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from chatwright.errors import ChatwrightError
from chatwright.serve.chat.tokens import Continuation
from chatwright.serve.engine import Delta, Engine, Finished, GenerationRequest, Started, TokenLogprob

log = logging.getLogger(__name__)
MAX_PER_OWNER = 8
KEPT_S = 60.0  # a finished answer can still be followed for so long
SAVE_EVERY_S = 2.0
BLIND_PIECE = 16
"""Characters per piece of a blind answer."""
PING_S = 15.0  # proxies close connections that are silent for long


@dataclass(eq=False, kw_only=True)
class LiveAnswer:
    """One answer being written."""

    id: str
    owner: str
    engine: Engine
    request: GenerationRequest
    save: Callable[[LiveAnswer], None]
    """Writes the answer down as it is; runs in a thread."""
    label: Mapping[str, Any]
    """What every event of it carries."""
    prefix: tuple[TokenLogprob, ...] = ()
    """Tokens that it was made to begin with."""
    blind: bool = False
    """Whether nothing may be told that could give its model away: token counts differ between tokenizers, and errors
    name models."""
    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    status: str = "streaming"
    error: str = ""
    finish_reason: str = ""
    started: Started = field(default_factory=lambda: Started(prompt_tokens=0))
    completion_tokens: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    over: bool = False
    listeners: set[asyncio.Event] = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    _next: Continuation | None = None
    _saved_at: float = 0.0
    _told: int = 0
    """Characters of a blind answer that were told."""

    def emit(self, name: str, data: Mapping[str, Any]) -> None:
        """Tell everybody who follows."""
        self.events.append((name, {**self.label, **data}))
        for listener in self.listeners:
            listener.set()

    async def run(self) -> None:
        """Write the answer to its end, and always save it."""
        self._begin()
        pump, stop = asyncio.ensure_future(self._pump()), asyncio.ensure_future(self.stopping.wait())
        with suppress(asyncio.CancelledError):  # the server ends
            await asyncio.wait({pump, stop}, return_when=asyncio.FIRST_COMPLETED)
        pump.cancel()
        stop.cancel()
        (outcome, _) = await asyncio.gather(pump, stop, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            self.status = "stopped"
        elif isinstance(outcome, BaseException):
            self.status, self.error = "error", told(outcome)
        else:
            self.status = "complete"
        if self.blind:
            self._tell_pieces(rest=True)
        try:
            await asyncio.to_thread(self.save, self)
        except Exception:
            log.exception("an answer could not be saved")
            self.status, self.error = "error", "the answer could not be saved; the server's log says why"
        if self.status == "error":
            self.emit("error", {"message": "the model failed to answer" if self.blind else self.error})
        figures: dict[str, Any] = {"status": self.status, "finish_reason": self.finish_reason}
        if not self.blind:
            figures["completion_tokens"] = self.completion_tokens
        self.over = True
        self.emit("done", figures)

    def _begin(self) -> None:
        self._saved_at = time.monotonic()
        self.emit("start", {"steps": self.steps})
        if self.prefix:
            self._next = Continuation([token.id for token in self.prefix], self.engine.token_bytes)
            self.tokens += self.prefix
            self.text = self._next.text
            self.completion_tokens = len(self.prefix)
            self.emit("delta", {"text": self.text})

    async def _pump(self) -> None:
        async with aclosing(self.engine.generate(self.request)) as events:  # type: ignore[type-var]
            async for event in events:
                self._take(event)
                if time.monotonic() - self._saved_at > SAVE_EVERY_S:
                    await asyncio.to_thread(self.save, self)
                    self._saved_at = time.monotonic()

    def _take(self, event: Started | Delta | Finished) -> None:
        if isinstance(event, Started):
            self.started = replace(event, version=event.version or self.started.version)
            if not self.blind:
                figures: dict[str, Any] = {
                    "prompt_tokens": event.prompt_tokens, "dropped_messages": event.dropped_messages,
                    "model_version": self.started.version,
                }  # fmt: skip
                self.emit("context", figures)
        elif isinstance(event, Delta):
            text = event.text
            if event.reasoning and not self.blind:  # shown while the answer lives; it is no part of the message
                self.emit("reasoning", {"text": event.reasoning})
            if self._next is not None:
                text = self._next.take([token.id for token in event.tokens], text)
            self.tokens += event.tokens
            self.completion_tokens = max(self.completion_tokens, len(self.tokens))
            self.text += text
            if self.blind:
                self._tell_pieces()
            elif text:
                self.emit("delta", {"text": text})
        else:
            self.finish_reason = event.reason
            self.completion_tokens = len(self.prefix) + event.completion_tokens


    @property
    def shown(self) -> str:
        """The text so far, as who follows has it."""
        return self.text[: self._told] if self.blind and not self.over else self.text

    def _tell_pieces(self, *, rest: bool = False) -> None:
        """Tell a blind answer in pieces of equal length: number and limits of tokens differ between models."""
        while len(self.text) - self._told >= (1 if rest else BLIND_PIECE):
            piece = self.text[self._told : self._told + BLIND_PIECE]
            self._told += len(piece)
            self.emit("delta", {"text": piece})


def told(error: BaseException) -> str:
    """What a person is told about an error; unexpected ones are logged and stay unnamed."""
    if isinstance(error, ChatwrightError):
        return str(error)
    log.error("an answer failed", exc_info=error)
    return "the model failed to answer; the server's log says why"


class Hub:
    """The answers that are being written, by id."""

    def __init__(self) -> None:
        self._answers: dict[str, LiveAnswer] = {}

    def get(self, answer_id: str) -> LiveAnswer | None:
        """An answer that is being written, or was until just now."""
        return self._answers.get(answer_id)

    def writing(self, answer_id: str) -> bool:
        """Whether an answer is being written."""
        answer = self._answers.get(answer_id)
        return answer is not None and not answer.over

    def check(self, owner: str, more: int) -> None:
        """429 when the owner has too many answers in the works."""
        if sum(a.owner == owner and not a.over for a in tuple(self._answers.values())) + more > MAX_PER_OWNER:
            raise HTTPException(429, f"at most {MAX_PER_OWNER} answers at a time; wait for one or stop it")

    def start(self, answer: LiveAnswer) -> None:
        """Begin to write."""
        self._answers[answer.id] = answer
        answer.task = asyncio.get_running_loop().create_task(answer.run())
        answer.task.add_done_callback(lambda _: self._forget_later(answer))

    def _forget_later(self, answer: LiveAnswer) -> None:
        asyncio.get_running_loop().call_later(KEPT_S, self._answers.pop, answer.id, None)

    async def stop(self, answers: Iterable[LiveAnswer | None]) -> None:
        """End answers and wait until they are saved and their places in the engine are free."""
        wanted = [answer for answer in answers if answer is not None and answer.task is not None]
        for answer in wanted:
            answer.stopping.set()
        await asyncio.gather(*(answer.task for answer in wanted if answer.task), return_exceptions=True)

    async def finish(self, timeout_s: float) -> None:
        """Wait until all answers are saved, at most so long."""
        if tasks := {answer.task for answer in self._answers.values() if answer.task is not None}:
            await asyncio.wait(tasks, timeout=timeout_s)

    def of_owner(self, owner: str) -> list[LiveAnswer]:
        """Answers of one user."""
        return [answer for answer in self._answers.values() if answer.owner == owner]

    def of_label(self, name: str, value: str) -> list[LiveAnswer]:
        """Answers whose events carry a value."""
        return [answer for answer in self._answers.values() if answer.label.get(name) == value]


async def follow(answers: Iterable[LiveAnswer], after: int = 0) -> AsyncIterator[str]:
    """Events of answers as server-sent events until all are over. The id of an event is its number in its answer; texts
    that have piled up come as one."""
    wake = asyncio.Event()
    places = dict.fromkeys(answers, after)
    try:
        for answer in places:
            answer.listeners.add(wake)
        while True:
            wake.clear()
            over = all(answer.over for answer in places)
            for answer, place in places.items():
                for number, name, data in _new(answer, place):
                    yield sse(name, data, number)
                    places[answer] = number
            if over:
                return
            try:
                await asyncio.wait_for(wake.wait(), PING_S)
            except TimeoutError:
                yield ": still here\n\n"
    finally:
        for answer in places:
            answer.listeners.discard(wake)


def _new(answer: LiveAnswer, after: int) -> list[tuple[int, str, dict[str, Any]]]:
    found: list[tuple[int, str, dict[str, Any]]] = []
    for number, (name, data) in enumerate(answer.events[after:], after + 1):
        if name in ("delta", "reasoning") and found and found[-1][1] == name:
            text = found.pop()[2]["text"] + data["text"]
            data = {**data, "text": text}
        found.append((number, name, data))
    return found


def sse(name: str, data: Mapping[str, Any], number: int) -> str:
    """One event."""
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"


def stream(events: AsyncIterator[str]) -> StreamingResponse:
    """A response of events."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
