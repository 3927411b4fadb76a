"""POST /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from chatwright.generation.api import Constraint
from chatwright.generation.calculator_steps import with_steps
from chatwright.serve.auth import Principal, require_scope
from chatwright.serve.desk.hooks import Heard
from chatwright.serve.engine import Delta, Finished, GenerationRequest, TokenLogprob
from chatwright.serve.openai.errors import APIError, api_error, generation_responses
from chatwright.serve.openai.generate import Call, Tally, events_of, finish_reason, params_of
from chatwright.serve.openai.replies import ChatReply, FinishReason, stream_or
from chatwright.serve.openai.stream import sse, streamed, unless_gone
from chatwright.serve.openai.tokens import chat_logprobs
from chatwright.serve.openai.tool_calls import (
    calls_out,
    constraint_for_tools,
    messages_of,
    steps_of,
    tools_for,
    wants_tools,
    wire_messages,
    without_calculator,
)
from chatwright.serve.openai.tool_reader import ToolCall, ToolReader
from chatwright.serve.openai.wire import ChatRequest, constraint_of
from chatwright.text.tool_format import OWN, ToolFormat

NEW_TOKENS = 1024  # when a request sets no limit
router = APIRouter(tags=["chat"])
_RESPONSES = {**stream_or(ChatReply, "chat.completion.chunk"), **generation_responses()}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What became known of answer `index`."""

    index: int
    text: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None


@dataclass
class Answer:
    """An answer as it comes together."""

    text: str = ""
    reasoning: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    finish: FinishReason = "length"

    def take(self, piece: Piece) -> None:
        """Add a piece."""
        self.text += piece.text
        self.reasoning += piece.reasoning
        self.tokens += piece.tokens
        self.calls += piece.calls
        self.finish = piece.finish or self.finish


async def asked_of(call: Call, body: ChatRequest, raw: dict[str, Any] | None = None) -> GenerationRequest:
    """The engine's request. `raw`: the body as a chat request when the client sent another. Raises ConfigError, APIError."""
    # Servers elsewhere get the client's own tools and formats and render them in their models' way.
    native = bool(getattr(call.engine, "takes_raw", False))
    if not native:
        _check_last(body)
    form = None if native else _form_of(call)
    constraint = _constraint(body, native=native, form=form)
    messages = with_steps(messages_of(body, native=native, form=form), steps_of(body))
    raw = await call.raw() if raw is None else raw
    if native:
        raw = {**raw, "messages": wire_messages(body)}
    if native and body.calculator:
        raw = without_calculator(raw, messages[-1].content)
    limit = body.max_completion_tokens or body.max_tokens or NEW_TOKENS
    params = params_of(
        call.engine, body, max_new_tokens=limit, n=body.n or 1, top_logprobs=body.top_logprobs or 0, constraint=constraint
    )
    if form is not None and form.open_id is not None and wants_tools(body):
        params = replace(params, shown_ids=frozenset((form.open_id,)))
    return GenerationRequest(
        request_id=call.request_id,
        owner=call.principal.id,
        messages=messages,
        tools=tools_for(body, raw, form),
        params=params,
        overflow=body.overflow or "error",
        raw=raw,
    )


def _form_of(call: Call) -> ToolFormat | None:
    """The form in which the model's chat template writes tool calls; None where it does not describe tools."""
    form = getattr(call.engine, "tool_format", None)
    return form if isinstance(form, ToolFormat) else None


def _constraint(body: ChatRequest, *, native: bool, form: ToolFormat | None) -> Constraint | None:
    """The constraint of the answer. With functions, an answer in JSON is either calls or that JSON."""
    given = constraint_of(body)
    if given and wants_tools(body) and not native:
        if given[0] not in ("json_object", "json_schema"):
            param = "script" if body.script else "structured_outputs"
            raise APIError(400, f"tools go with response_format, not with {param}; leave one of them out", param=param)
        return constraint_for_tools(body, given[1] or '{"type": "object"}', form)
    if given:
        return Constraint(kind=given[0], value=given[1])  # type: ignore[arg-type]
    return None if native else constraint_for_tools(body, form=form)


def _check_last(body: ChatRequest) -> None:
    """Refuse a conversation that asks for nothing. An answer that is begun is not continued: APIError."""
    last = body.messages[-1]
    if last.role not in ("user", "tool"):
        what = "this server does not continue a message" if last.role == "assistant" else "it asks for no answer"
        raise APIError(
            400, f"messages: the last one is from the {last.role}; it must be from the user or a tool, as {what}",
            param="messages",
        )  # fmt: skip
    if not last.text.strip():
        raise APIError(400, f"messages: the last one, from the {last.role}, is empty", param="messages")


async def pieces(
    call: Call, body: ChatRequest, asked: GenerationRequest, tally: Tally
) -> AsyncGenerator[Piece | None, None]:
    """The answers piece by piece, calls taken out of their text; None when the engine has begun."""
    form, names = _form_of(call) or OWN, [tool.function.name for tool in body.functions]
    readers: defaultdict[int, ToolReader] = defaultdict(lambda: ToolReader(form, names))
    said = replace(asked, messages=messages_of(body)) if steps_of(body) else asked
    heard = Heard(call.shared, call.principal, said, model=call.engine.name, tools=wants_tools(body))
    async with aclosing(events_of(call, [asked], tally)) as events:
        async for _, event in events:
            heard.take(event)
            if event is None:
                yield None
            elif not wants_tools(body):
                yield _plain(event)
            elif isinstance(event, Delta):
                text, calls = readers[event.index].push(event.text)
                yield Piece(
                    index=event.index, text=text, tokens=event.tokens, reasoning=event.reasoning, calls=tuple(calls)
                )  # fmt: skip
            else:
                reader, finish = readers[event.index], finish_reason(event)
                if rest := reader.flush():
                    yield Piece(index=event.index, text=rest)
                yield Piece(index=event.index, finish="tool_calls" if reader.calls and finish == "stop" else finish)
    heard.over(tally.version)


def _plain(event: Delta | Finished) -> Piece:
    if isinstance(event, Finished):
        return Piece(index=event.index, finish=finish_reason(event))
    return Piece(index=event.index, text=event.text, tokens=event.tokens, reasoning=event.reasoning)


async def gathered(call: Call, body: ChatRequest, asked: GenerationRequest, tally: Tally) -> list[Answer]:
    """The whole answers."""
    answers = [Answer() for _ in range(asked.params.n)]
    async with aclosing(pieces(call, body, asked, tally)) as parts:
        async for piece in parts:
            if piece is not None:
                answers[piece.index].take(piece)
    return answers


@router.post("/v1/chat/completions", responses=_RESPONSES)
async def chat_completions(
    body: ChatRequest, request: Request, principal: Annotated[Principal, Depends(require_scope("chat"))]
) -> Response:
    """Answer a conversation, whole or, with `stream`, piece by piece."""
    call = Call.of(request, principal, body.model)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": call.engine.name}
    try:
        asked = await asked_of(call, body)
        if body.stream:
            return await streamed(request, _chunks(call, body, asked, head))
        return JSONResponse(await _whole(request, call, body, asked, head))
    except Exception as error:
        raise api_error(error) from error


async def _whole(
    request: Request, call: Call, body: ChatRequest, asked: GenerationRequest, head: dict[str, Any]
) -> dict[str, Any]:
    tally = Tally()
    answers = await unless_gone(request, gathered(call, body, asked, tally))
    choices = [
        {
            "index": index,
            "message": _message(answer) | steps_out(body),
            "logprobs": chat_logprobs(call.engine, answer.tokens) if body.logprobs else None,
            "finish_reason": answer.finish,
        }
        for index, answer in enumerate(answers)
    ]
    reply = {**head, "object": "chat.completion", "choices": choices, "usage": tally.usage()}
    reply["system_fingerprint"] = tally.version or None
    return {**reply, "service_tier": None, "dropped_messages": tally.dropped_messages}


def _message(answer: Answer) -> dict[str, Any]:
    content = None if answer.calls and not answer.text else answer.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    message |= {"reasoning_content": answer.reasoning} if answer.reasoning else {}
    return message | ({"tool_calls": calls_out(answer.calls)} if answer.calls else {})


def steps_out(body: ChatRequest) -> dict[str, Any]:
    """What the calculator did, for a message or its first delta; nothing where it was not asked for."""
    return {"steps": [step.to_dict() for step in steps_of(body)]} if body.calculator else {}


async def _chunks(
    call: Call, body: ChatRequest, asked: GenerationRequest, head: dict[str, Any]
) -> AsyncGenerator[str, None]:
    tally, counts = Tally(), defaultdict[int, int](int)

    def chunk(*choices: dict[str, Any]) -> str:
        made = {**head, "object": "chat.completion.chunk", "choices": list(choices)}
        made["system_fingerprint"] = tally.version or None
        if body.include_usage:
            made["usage"] = tally.usage() if body.usage_everywhere or not choices else None
        return sse(made)

    def choice(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    async with aclosing(pieces(call, body, asked, tally)) as parts:
        async for piece in parts:
            if piece is None:
                for index in range(asked.params.n):
                    yield chunk(choice(index, {"role": "assistant", "content": ""} | steps_out(body)))
                continue
            logprobs = chat_logprobs(call.engine, piece.tokens) if body.logprobs and piece.tokens else None
            if piece.reasoning:
                yield chunk(choice(piece.index, {"reasoning_content": piece.reasoning}))
            if piece.text or logprobs:
                yield chunk(choice(piece.index, {"content": piece.text}, logprobs))
            for made in piece.calls:
                for delta in _call_deltas(counts[piece.index], made):
                    yield chunk(choice(piece.index, {"tool_calls": [delta]}))
                counts[piece.index] += 1
            if piece.finish is not None:
                yield chunk(choice(piece.index, {}, None, piece.finish))
    if body.include_usage:
        yield chunk()


def _call_deltas(number: int, call: ToolCall) -> list[dict[str, Any]]:
    """The name first, then the arguments."""
    function = {"name": call.name, "arguments": ""}
    return [
        {"index": number, "id": call.id, "type": "function", "function": function},
        {"index": number, "function": {"arguments": call.arguments}},
    ]
