"""POST /v1/completions: texts or token ids continued as they are, and scored."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from chatwright.generation.api import Constraint
from chatwright.serve.auth import Principal, require_scope
from chatwright.serve.engine import Delta, Finished, GenerationRequest, PromptTooLong, TokenLogprob
from chatwright.serve.openai.errors import api_error, generation_responses
from chatwright.serve.openai.generate import Call, Tally, events_of, finish_reason, params_of, raw_ids, record_usage
from chatwright.serve.openai.replies import CompletionReply, FinishReason, stream_or
from chatwright.serve.openai.stream import sse, streamed, unless_gone
from chatwright.serve.openai.tokens import CompletionTokens
from chatwright.serve.openai.wire import CompletionRequest, constraint_of

NEW_TOKENS = 16  # when a request sets no limit, as OpenAI does
router = APIRouter(tags=["completions"])
_RESPONSES = {**stream_or(CompletionReply, "text_completion"), **generation_responses()}


@dataclass(frozen=True)
class _Echo:
    """A prompt that is given back."""

    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: tuple[TokenLogprob | None, ...] = ()


@dataclass
class _Answer:
    """One answer as it comes together."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish: FinishReason = "length"

    @property
    def mean_logprob(self) -> float:
        """By which `best_of` ranks."""
        return sum(token.logprob for token in self.tokens) / max(len(self.tokens), 1)


@dataclass(kw_only=True)
class _Job:
    """A request, ready to run."""

    call: Call
    body: CompletionRequest
    asked: list[GenerationRequest]
    limit: int
    tally: Tally
    head: dict[str, Any]
    scored: Tally = field(default_factory=Tally)
    """Prompt tokens of echoes. They are counted where nothing is generated after them: else generation counts the prompt."""
    generates: bool = False
    """True when generation has begun."""

    @property
    def wanted(self) -> int:
        """Answers per prompt that the client gets."""
        return self.body.n or 1

    @property
    def fingerprint(self) -> str | None:
        """Version of the model that continues or scores the prompts."""
        return self.tally.version or self.scored.version or None


@router.post("/v1/completions", responses=_RESPONSES)
async def completions(
    body: CompletionRequest, request: Request, principal: Annotated[Principal, Depends(require_scope("completions"))]
) -> Response:
    """Continue texts, or token ids, as they are. `echo` with `logprobs` also scores the prompt's own tokens."""
    call = Call.of(request, principal, body.model)
    try:
        job = await _job(call, body)
        if body.stream:
            return await streamed(request, _chunks(job))
        return JSONResponse(await unless_gone(request, _whole(job)))
    except Exception as error:
        raise api_error(error, prompt_param="prompt") from error


async def _job(call: Call, body: CompletionRequest) -> _Job:
    limit = NEW_TOKENS if body.max_tokens is None else body.max_tokens
    kind = constraint_of(body)
    constraint = Constraint(kind=kind[0], value=kind[1]) if kind else None  # type: ignore[arg-type]
    drawn, raw = body.best_of or body.n or 1, await call.raw()
    asked = []
    for number, prompt in enumerate(body.prompts()):
        params = params_of(
            call.engine, body if body.seed is None else body.model_copy(update={"seed": body.seed + number}),
            max_new_tokens=max(limit, 1), n=drawn, top_logprobs=body.logprobs or 0, constraint=constraint,
        )  # fmt: skip
        if body.echo and body.logprobs is not None and isinstance(prompt, str):
            prompt = tuple(await run_in_threadpool(raw_ids, call.engine, prompt))  # what is scored is what is continued
        asked.append(
            GenerationRequest(
                request_id=call.request_id, owner=call.principal.id, prompt=prompt, params=params,
                raw={**raw, "prompt": prompt},
            )
        )  # fmt: skip
    head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
    return _Job(
        call=call, body=body, asked=asked, limit=limit, tally=Tally(),
        head={**head, "model": call.engine.name},
    )  # fmt: skip


@asynccontextmanager
async def _counted(job: _Job) -> AsyncIterator[None]:
    """Count what echoes cost, however the block ends."""
    whole = False
    try:
        yield
        whole = True
    finally:
        if not job.generates:
            record = record_usage(job.call, job.scored)
            if whole:
                await record


async def _echo(job: _Job, number: int) -> _Echo:
    if not job.body.echo:
        return _Echo()
    given, prompt, engine = job.body.prompts()[number], job.asked[number].prompt, job.call.engine
    job.scored.version = engine.version
    text = given if isinstance(given, str) else engine.decode(given)
    if job.body.logprobs is None and isinstance(prompt, str):
        ids = tuple(await run_in_threadpool(raw_ids, engine, prompt)) if not job.limit else ()
        job.scored.prompt_tokens += len(ids)
        return _Echo(text, ids)
    assert isinstance(prompt, tuple)
    if len(prompt) + bool(job.limit) > engine.context_length:
        raise PromptTooLong(len(prompt), engine.context_length)
    job.scored.prompt_tokens += len(prompt)  # before the model runs: a client that leaves has made it run
    if job.body.logprobs is None:
        return _Echo(text, prompt)
    return _Echo(text, prompt, tuple(await engine.score(prompt, job.body.logprobs)))


def _logprobs(collector: CompletionTokens, echo: _Echo, tokens: list[TokenLogprob]) -> dict[str, Any]:
    return collector.take([*echo.ids, *(token.id for token in tokens)], [*echo.tokens, *tokens])


async def _whole(job: _Job) -> dict[str, Any]:
    async with _counted(job):
        return await _answered(job)


async def _answered(job: _Job) -> dict[str, Any]:
    echoes = [await _echo(job, number) for number in range(len(job.asked))]
    drawn = job.asked[0].params.n
    answers = [[_Answer() for _ in range(drawn)] for _ in job.asked]
    if job.limit:
        job.generates = True
        async with aclosing(events_of(job.call, job.asked, job.tally)) as events:
            async for number, event in events:
                if event is None:
                    continue
                answer = answers[number][event.index]
                if isinstance(event, Delta):
                    answer.text += event.text
                    answer.tokens += event.tokens
                else:
                    answer.finish = finish_reason(event)
    else:
        job.tally.prompt_tokens = sum(len(echo.ids) for echo in echoes)
    choices = []
    for number, (echo, drawn_here) in enumerate(zip(echoes, answers, strict=True)):
        best = sorted(drawn_here, key=lambda answer: -answer.mean_logprob) if drawn > job.wanted else drawn_here
        for place, answer in enumerate(best[: job.wanted]):
            scored = None
            if job.body.logprobs is not None:
                scored = _logprobs(CompletionTokens(job.call.engine), echo, answer.tokens)
            index = number * job.wanted + place
            choices.append(
                {"index": index, "text": echo.text + answer.text, "logprobs": scored, "finish_reason": answer.finish}
            )
    return {**job.head, "system_fingerprint": job.fingerprint, "choices": choices, "usage": job.tally.usage()}


async def _chunks(job: _Job) -> AsyncGenerator[str, None]:
    """Answers to all prompts in parallel; the first piece of each is the echo."""
    async with _counted(job), aclosing(_pieces(job)) as pieces:
        async for piece in pieces:
            yield piece


async def _pieces(job: _Job) -> AsyncGenerator[str, None]:
    body, collectors = job.body, dict[int, CompletionTokens]()

    def chunk(*choices: dict[str, Any]) -> str:
        made = {**job.head, "system_fingerprint": job.fingerprint, "choices": list(choices)}
        if body.include_usage:
            made["usage"] = job.tally.usage() if body.usage_everywhere or not choices else None
        return sse(made)

    def choice(index: int, text: str, logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    for number in range(len(job.asked) if body.echo else 0):
        echo = await _echo(job, number)
        job.tally.prompt_tokens += 0 if job.limit else len(echo.ids)
        for index in range(number * job.wanted, (number + 1) * job.wanted):
            collector = collectors[index] = CompletionTokens(job.call.engine)
            scored = _logprobs(collector, echo, []) if body.logprobs is not None else None
            yield chunk(choice(index, echo.text, scored, None if job.limit else "length"))
    if job.limit:
        job.generates = True
        async with aclosing(events_of(job.call, job.asked, job.tally)) as events:
            async for number, event in events:
                if event is None:
                    continue
                index = number * job.wanted + event.index
                if isinstance(event, Finished):
                    yield chunk(choice(index, "", None, finish_reason(event)))
                    continue
                collector = collectors.setdefault(index, CompletionTokens(job.call.engine))
                scored = _logprobs(collector, _Echo(), list(event.tokens)) if body.logprobs is not None else None
                if event.text or scored:
                    yield chunk(choice(index, event.text, scored))
    if body.include_usage:
        yield chunk()
