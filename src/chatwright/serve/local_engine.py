"""The model in this process as an engine."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cached_property
from typing import Any, TypeVar, cast

from chatwright.errors import ConfigError, ModelError
from chatwright.generation.lm import LM, load
from chatwright.generation.score import score_parts
from chatwright.generation.shapes import bound_primitives
from chatwright.hub.content_hash import content_hash
from chatwright.records import Message
from chatwright.serve.constraints import ConstraintPool
from chatwright.serve.engine import DEADLINE_S, EngineStats, Event, GenerationRequest, PromptTooLong, Started, TokenLogprob
from chatwright.serve.scheduler import Scheduler
from chatwright.serve.starters import starters_of
from chatwright.text.pieces import token_bytes
from chatwright.text.token_bound import TokenBound

log = logging.getLogger(__name__)
Part = TypeVar("Part")
Result = TypeVar("Result")
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}


class LocalEngine:
    """`chatwright.load` behind the scheduler."""

    def __init__(
        self, name: str, lm: LM, *, max_batch: int = 32, max_waiting: int = 256, prefix_mb: int = 512,
        deadline_s: float = DEADLINE_S,
    ) -> None:  # fmt: skip
        self.name, self.lm, self.deadline_s = name, lm, deadline_s
        self.version = ""
        """Content hash of the model's files."""
        self.starters: list[str] = []
        """Questions to begin a chat with."""
        sizes = {"max_batch": max_batch, "max_waiting": max_waiting, "prefix_bytes": prefix_mb * 2**20}
        self.scheduler = Scheduler(lm.generator, **sizes)
        self.scheduler.start()
        self._constraints = ConstraintPool(lm.generator.constraints)
        self.tool_format = lm.tokenizer.tool_format
        """The form in which the chat template writes tool calls; None: `/v1` describes tools in the system message."""
        if self.tool_format is None:
            log.info(
                "model %s: its chat template does not describe tools, or not in a form known here; /v1 describes them in "
                "the system message", name,
            )  # fmt: skip

    @classmethod
    def open(
        cls, model: str, *, name: str = "", precision: str = "auto", max_batch: int = 32, prefix_mb: int = 512,
        template: str = "", deadline_s: float = DEADLINE_S,
    ) -> LocalEngine:
        """Load a model by name, folder or file. Raises HubError, ModelError, CheckpointError, ConfigError."""
        if precision not in DTYPES:
            raise ConfigError(f"precision {precision!r}: a served model takes {', '.join(DTYPES)}")
        bound_primitives()
        lm = in_own_thread(lambda: load(model, dtype=DTYPES[precision], template=template))
        lm.generator.constraints.prepare()
        engine = cls(name or model, lm, max_batch=max_batch, prefix_mb=prefix_mb, deadline_s=deadline_s)
        engine.starters, engine.version = starters_of(model), content_hash(model)
        return engine

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.lm.model.config.max_positions

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self.scheduler.ready

    @property
    def dead(self) -> bool:
        """True when it has crashed for good; a new process helps."""
        return self.scheduler.dead

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Event]:
        """See `Engine`."""
        self.scheduler.refuse_when_full(request.params.n, request.owner)  # before any work
        ids, dropped = await self.scheduler.prepare(self._prompt, request)
        if request.answer_prefix:
            ids = [*ids, *request.answer_prefix]
            if len(ids) >= self.context_length:
                raise PromptTooLong(len(ids), self.context_length)
        constraint = request.params.constraint
        matcher = await self._constraints.matcher(request.owner, constraint) if constraint is not None else None
        started = Started(prompt_tokens=len(ids), dropped_messages=dropped, version=self.version)
        deadline_s = request.deadline_s or self.deadline_s
        events = self.scheduler.submit(
            request.owner, ids, request.params, started, deadline_s, matcher, interactive=request.interactive
        )
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                yield event

    @cached_property
    def _bound(self) -> TokenBound:
        return TokenBound(self.lm.tokenizer)

    def _refuse_long(self, text: str) -> None:
        """PromptTooLong for a text that is far beyond the context. Tokenizing it would take seconds."""
        if len(text) > self.context_length and (least := self._bound.least(text)) > self.context_length:
            raise PromptTooLong(least, self.context_length, at_least=True)

    def refuse_long(self, request: GenerationRequest) -> None:
        """PromptTooLong for a request that is far beyond the context, before other work with its text."""
        if request.messages:
            self._within_bound(request)
        elif isinstance(request.prompt, str):
            self._refuse_long(request.prompt)
        elif len(request.prompt) >= self.context_length:
            raise PromptTooLong(len(request.prompt), self.context_length)

    def _within_bound(self, request: GenerationRequest) -> tuple[list[Message], int]:
        """The messages to tokenize and how many of the oldest were left out before. Raises PromptTooLong."""
        messages = list(request.messages)
        tools = json.dumps(request.tools, ensure_ascii=False) if request.tools else ""
        first = 1 if messages[0].role == "system" else 0
        turns = [n for n, message in enumerate(messages) if message.role == "user" and n > first]
        starts = [first, *turns] if request.overflow == "drop_oldest" else [first]

        def fits(start: int) -> bool:
            try:
                self._refuse_long(tools + "".join(map(_said, messages[:first] + messages[start:])))
            except PromptTooLong:
                return False
            return True

        found = bisect_left(starts, True, key=fits)
        if found == len(starts):
            self._refuse_long(tools + "".join(map(_said, messages)))
        start = starts[min(found, len(starts) - 1)]
        return messages[:first] + messages[start:], start - first

    def _prompt(self, request: GenerationRequest) -> tuple[list[int], int]:
        """(prompt tokens, messages left out)."""
        if not request.messages:
            prompt = request.prompt
            if isinstance(prompt, str):
                self._refuse_long(prompt)
            ids = self.lm.prompt_ids(prompt, raw=True) if isinstance(prompt, str) else list(prompt)
            if len(ids) >= self.context_length:
                raise PromptTooLong(len(ids), self.context_length)
            return ids, 0
        messages, left_out = self._within_bound(request)
        ids = self.lm.prompt_ids(messages, tools=request.tools)
        if request.overflow == "error":
            if len(ids) >= self.context_length:
                raise PromptTooLong(len(ids), self.context_length)
            return ids, 0
        room = min(request.params.max_new_tokens, self.context_length // 4)
        if len(ids) + room <= self.context_length:
            return ids, left_out
        ids, dropped = self._shortened(messages, self.context_length - room, len(ids), request.tools)
        return ids, left_out + dropped

    def _shortened(
        self, messages: list[Message], most: int, num_tokens: int, tools: Sequence[Any]
    ) -> tuple[list[int], int]:
        """The prompt without as few of the oldest turns as it takes to have at most `most` tokens, and the number of
        messages left out. The system message and the last turn stay."""
        first = 1 if messages[0].role == "system" else 0
        turns = [n for n, message in enumerate(messages) if message.role == "user" and n > first]

        def without(turn: int) -> list[int]:
            return self.lm.prompt_ids(messages[:first] + messages[turns[turn] :], tools=tools)

        low, high = 0, len(turns)  # bisection: a long conversation is rendered a few times, not once a turn
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(without(middle)) <= most else (middle + 1, high)
        if low == len(turns):
            raise PromptTooLong(num_tokens, self.context_length)
        return without(low), turns[low] - first

    async def score(self, ids: Sequence[int], top: int) -> list[TokenLogprob | None]:
        """See `Engine`."""
        absent = self.lm.generator.absent_ids
        rows = [row async for part in self._in_parts(score_parts(self.lm.model, ids, top, absent=absent)) for row in part]
        return [
            None if row is None else TokenLogprob(id=token, logprob=row[0], top=row[1])
            for token, row in zip(ids, rows, strict=True)
        ]

    async def embed(self, inputs: Sequence[str | Sequence[int]], dimensions: int | None) -> tuple[list[list[float]], int]:
        """See `Engine`."""
        embedder = self.lm.embedder
        embedder.check_dimensions(dimensions)
        every = await self.scheduler.prepare(self._input_ids, inputs)
        # One text at a time: a vector never depends on its neighbours.
        vectors = [
            embedder.joined([part async for part in self._in_parts(embedder.parts(ids))], dimensions) for ids in every
        ]
        return vectors, sum(map(len, every))

    def _input_ids(self, inputs: Sequence[str | Sequence[int]]) -> list[list[int]]:
        for one in inputs:
            if isinstance(one, str) and self.lm.embedder.spec.attention == "causal":  # the others read texts in windows
                self._refuse_long(one)
        return [self.lm.embedder.ids(one) for one in inputs]

    async def _in_parts(self, parts: Iterator[Part]) -> AsyncIterator[Part]:
        """Items of an iterator that uses the model: each is made between two steps, so that streams go on meanwhile."""
        end = object()
        while (part := await self.scheduler.call(lambda: next(parts, end))) is not end:
            yield cast(Part, part)

    def encode(self, text: str) -> list[int]:
        """See `Engine`."""
        self._refuse_long(text)
        return self.lm.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Engine`."""
        return self.lm.tokenizer.decode(ids)

    @cached_property
    def _bytes(self) -> list[bytes]:
        try:
            return token_bytes(self.lm.tokenizer)
        except ModelError:
            return [self.lm.tokenizer.decode([i]).encode() for i in range(self.lm.tokenizer.vocab_size)]

    def token_bytes(self, token_id: int) -> bytes:
        """See `Engine`."""
        known = self._bytes[token_id] if token_id < len(self._bytes) else b""
        return known or self.lm.tokenizer.piece(token_id).encode()

    def tokenizer_info(self) -> dict[str, Any]:
        """See `Engine`."""
        tokenizer = self.lm.tokenizer
        names = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.end_of_turn_id, "pad_token": tokenizer.pad_id}
        return {name: None if i is None else tokenizer.piece(i) for name, i in names.items()} | {
            "bos_token_id": tokenizer.bos_id,
            "add_bos_token": self.lm.wants_bos,
            "eos_token_ids": sorted(tokenizer.stop_ids),
            "chat_template": tokenizer.jinja(),
            "vocab_size": tokenizer.vocab_size,
            "context_length": self.context_length,
        }

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return self.scheduler.stats()

    async def drain(self, timeout_s: float) -> None:
        """See `Engine`."""
        await self.scheduler.drain(timeout_s)
        self._constraints.close()


def _said(message: Message) -> str:
    """The texts of a message that the chat template writes."""
    return message.content + "".join(call.arguments for call in message.tool_calls)


def in_own_thread(function: Callable[[], Result]) -> Result:
    """The result of `function`, called in a thread that then ends, and with it the OpenMP threads that helped it.

    Each thread that computes keeps helpers of its own. Once there are more of them than processors, all go to sleep after
    every matrix product instead of waiting actively, and the scheduler's steps take 1.8 times as long
    (docs/methods/serving.md): so a thread that computes now and then must not stay.
    """
    with ThreadPoolExecutor(1) as own:
        return own.submit(function).result()
