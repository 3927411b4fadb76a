"""From a request's fields to the engine and back: what chat, completions and responses share."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from chatwright.errors import UsageError
from chatwright.generation.api import Constraint, SamplingParams
from chatwright.serve.auth import Principal
from chatwright.serve.engine import Delta, Engine, Finished, GenerationRequest, Started
from chatwright.serve.openai.errors import APIError
from chatwright.serve.openai.replies import FinishReason, Usage
from chatwright.serve.openai.stream import together
from chatwright.serve.openai.wire import Generation
from chatwright.serve.services import Services, services

ANSWERS_AT_ONCE = 64  # of one request; the rest wait here and take no place in the queue
log = logging.getLogger(__name__)
_recording: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API: who asks which model."""

    request: Request
    principal: Principal
    shared: Services
    engine: Engine

    @classmethod
    def of(cls, request: Request, principal: Principal, model: str | None) -> Call:
        """Raises APIError 404 for a model that is not served, 503 for one that is still loading."""
        shared = services(request)
        engine, loading = shared.registry.get(model or ""), shared.registry.loading
        if engine is None and (model in loading or (loading and not model)):
            message = f"model {model or loading[0]!r} is still loading; try again soon"
            raise APIError(503, message, param="model", code="model_loading", retry_after_s=2)
        if engine is None:
            names = ", ".join(shared.registry.names()) or "none yet"
            message = f"model {model!r} is not served here; models: {names}"
            raise APIError(404, message, param="model", code="model_not_found")
        return cls(request=request, principal=principal, shared=shared, engine=engine)

    @property
    def request_id(self) -> str:
        """As in the header `x-request-id`."""
        return str(getattr(self.request.state, "request_id", ""))

    async def raw(self) -> dict[str, Any]:
        """The client's own body."""
        body = await self.request.json()
        return body if isinstance(body, dict) else {}


@dataclass
class Tally:
    """Token counts of a request as it goes on."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    dropped_messages: int = 0
    version: str = ""
    """Of the model that answers, once it is known."""

    def usage(self) -> dict[str, Any]:
        """As the API shows it."""
        return Usage.of(
            self.prompt_tokens, self.completion_tokens, self.cached_tokens, self.reasoning_tokens
        ).model_dump()


def params_of(
    engine: Engine, body: Generation, *, max_new_tokens: int, n: int, top_logprobs: int, constraint: Constraint | None
) -> SamplingParams:
    """How answers are drawn. Raises ConfigError, APIError."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return SamplingParams(
        max_new_tokens=max_new_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_k=max(0, body.top_k or 0),
        top_p=1.0 if body.top_p is None else body.top_p,
        stop=tuple(stop),
        seed=secrets.randbits(48) if body.seed is None else body.seed,
        n=n,
        logit_bias=_biases(engine, body),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        top_logprobs=top_logprobs,
        ignore_eos=bool(body.ignore_eos),
        constraint=constraint,
    )


def _biases(engine: Engine, body: Generation) -> tuple[tuple[int, float], ...]:
    biases = tuple((int(token), bias) for token, bias in (body.logit_bias or {}).items())
    if biases and (size := vocabulary(engine)) is not None and max(token for token, _ in biases) >= size:
        raise APIError(400, f"logit_bias: token ids go from 0 to {size - 1}", param="logit_bias")
    return biases


def vocabulary(engine: Engine) -> int | None:
    """Number of token ids; None where the engine does not know it."""
    try:
        size = engine.tokenizer_info().get("vocab_size")
    except UsageError:
        return None
    return size if isinstance(size, int) else None


def raw_ids(engine: Engine, text: str, *, special: bool = True) -> list[int]:
    """Tokens of a text that is continued as it is; with `special` after the bos token of models that are used to one."""
    ids = engine.encode(text)
    info = engine.tokenizer_info() if special else {}
    return [info["bos_token_id"], *ids] if info.get("add_bos_token") and info.get("bos_token_id") is not None else ids


def finish_reason(event: Finished) -> FinishReason:
    """As the API calls it: an answer ended by its deadline was cut, like one at its length limit."""
    return event.reason if event.reason in ("stop", "content_filter") else "length"


async def events_of(
    call: Call, asked: Sequence[GenerationRequest], tally: Tally
) -> AsyncGenerator[tuple[int, Delta | Finished | None], None]:
    """What the engine says to several requests, with each one's number; None when the first of all has begun. Token counts
    go to `tally` and, however it ends, to the account of the key."""
    begun = whole = False
    counted: Counter[tuple[int, int]] = Counter()
    try:
        at_once = max(1, ANSWERS_AT_ONCE // max(one.params.n for one in asked))
        async with aclosing(together([call.engine.generate(one) for one in asked], at_once=at_once)) as merged:
            async for number, event in merged:
                if isinstance(event, Started):
                    tally.prompt_tokens += event.prompt_tokens
                    tally.cached_tokens += event.cached_tokens
                    tally.dropped_messages += event.dropped_messages
                    tally.version = event.version or tally.version
                    if not begun:
                        begun = True
                        yield number, None
                    continue
                place = (number, event.index)
                # Engines without log-probabilities tell the number of tokens at the end only.
                new = len(event.tokens) if isinstance(event, Delta) else event.completion_tokens - counted[place]
                counted[place] += new
                tally.completion_tokens += new
                tally.reasoning_tokens += event.reasoning_tokens if isinstance(event, Finished) else 0
                yield number, event
        whole = True
    finally:
        record = record_usage(call, tally)
        if whole:  # a client that asks for its usage next sees this answer in it
            await record


def record_usage(call: Call, tally: Tally) -> asyncio.Task[None]:
    """Count tokens for the key, in a task that the client's leaving does not end."""
    record = asyncio.create_task(_record(call, tally))
    _recording.add(record)
    record.add_done_callback(_recording.discard)
    return record


async def _record(call: Call, tally: Tally) -> None:
    if not tally.prompt_tokens and not tally.completion_tokens:
        return
    try:
        await run_in_threadpool(
            call.shared.limits.record, call.shared.workspace, call.principal, call.engine.name,
            prompt_tokens=tally.prompt_tokens, completion_tokens=tally.completion_tokens, version=tally.version,
        )  # fmt: skip
    except Exception:
        log.exception("usage of a request could not be written")
