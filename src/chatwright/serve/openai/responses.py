"""POST /v1/responses, the part of it that a stateless text model can answer: input, instructions, functions, text formats,
streaming events. A request is read as a chat request, so that both mean the same."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError, model_validator

from chatwright.generation.calculator_steps import Step
from chatwright.serve.auth import Principal, require_scope
from chatwright.serve.openai.chat import Answer, Piece, asked_of, gathered, pieces
from chatwright.serve.openai.errors import api_error, generation_responses, unsupported, validation_error
from chatwright.serve.openai.generate import Call, Tally
from chatwright.serve.openai.replies import stream_or
from chatwright.serve.openai.stream import sse, streamed, unless_gone
from chatwright.serve.openai.tool_calls import steps_of
from chatwright.serve.openai.tool_reader import ToolCall
from chatwright.serve.openai.wire import MAX_MESSAGES, MAX_TOOLS, ChatRequest, Count, JsonObject, Text, Wire

router = APIRouter(tags=["responses"])


class TextFormat(Wire):
    """What the answer has to look like."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] | None = None
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Wire):
    """Options of the text."""

    format: TextFormat | None = None


class ResponsesRequest(Wire):
    """POST /v1/responses."""

    input: Text | Annotated[list[JsonObject], Field(min_length=1, max_length=MAX_MESSAGES)]
    """A text, or messages, function_call and function_call_output items."""
    instructions: Text | None = None
    """System message before the input."""
    model: Annotated[str, Field(max_length=256)] | None = None
    stream: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    text: TextOptions | None = None
    tools: Annotated[list[JsonObject], Field(max_length=MAX_TOOLS)] | None = None
    """Functions, and `{"type": "calculator"}`."""
    tool_choice: Literal["none", "auto", "required"] | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """auto: the oldest messages of a conversation that is too long are left out."""
    metadata: JsonObject | None = None
    store: bool | None = None
    """Accepted; nothing is kept."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in ("previous_response_id", "conversation", "background", "prompt", "max_tool_calls"):
                if value.get(name) not in (None, False, "disabled"):
                    raise unsupported(name, "responses are not kept here; send the whole conversation as input")
            if value.get("top_logprobs"):
                raise unsupported("top_logprobs", "/v1/chat/completions has log-probabilities")
            if isinstance(include := value.get("include"), list) and "message.output_text.logprobs" in include:
                raise unsupported("include", "/v1/chat/completions has log-probabilities")  # others ask for items never made
        return value

    def text_out(self) -> dict[str, Any]:
        """The format of the answer, as given."""
        if self.text is None or self.text.format is None:
            return {"format": {"type": "text"}}
        return self.text.model_dump(by_alias=True, exclude_none=True)

    def as_chat(self) -> ChatRequest:
        """The same as a chat request. Raises APIError naming the field."""
        body: dict[str, Any] = {
            "messages": self._messages(), "model": self.model, "max_tokens": self.max_output_tokens,
            "temperature": self.temperature, "top_p": self.top_p, "parallel_tool_calls": self.parallel_tool_calls,
            "tools": [_tool(tool) for tool in self.tools] if self.tools else None,
            "tool_choice": _tool_choice(self.tool_choice), "stream": self.stream,
            "overflow": "drop_oldest" if self.truncation == "auto" else None,
        }  # fmt: skip
        form = self.text.format if self.text else None
        if form is not None and form.type != "text":
            schema = {"name": form.name or "answer", "schema": form.schema_}
            body["response_format"] = {"type": form.type} | ({"json_schema": schema} if form.type == "json_schema" else {})
        try:
            return ChatRequest.model_validate(body)
        except ValidationError as error:
            raise validation_error([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for number, item in enumerate(self.input):
            kind = item.get("type", "message")
            if kind == "message":
                messages.append({"role": item.get("role"), "content": item.get("content")})
            elif kind == "function_call":
                function = {"name": item.get("name"), "arguments": item.get("arguments", "")}
                call = {"id": str(item.get("call_id") or ""), "type": "function", "function": function}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                messages[-1].setdefault("tool_calls", []).append(call)  # calls of one answer stand in one message
            elif kind == "function_call_output":
                messages.append({"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")})
            elif kind not in ("reasoning", "calculator_call"):
                raise unsupported(f"input[{number}]", f"items of type {str(kind)[:64]!r} cannot be read here")
        return messages


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") == "calculator":
        return {"type": "calculator"}
    if tool.get("type") != "function":
        raise unsupported("tools", "only functions and the calculator can be used")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        tools = choice.get("tools")
        named = [_tool_choice(tool) for tool in tools] if isinstance(tools, list) else tools
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": named}}
    return choice


class ResponsesReply(BaseModel):
    """response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]]
    """Steps of the calculator, reasoning, messages and function calls."""
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    """Version of the model, as in the other replies; OpenAI's responses lack it."""


_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}  # why an answer is incomplete
_RESPONSES = {**stream_or(ResponsesReply, "response event"), **generation_responses()}


@router.post("/v1/responses", responses=_RESPONSES)
async def create_response(
    body: ResponsesRequest, request: Request, principal: Annotated[Principal, Depends(require_scope("chat"))]
) -> Response:
    """Answer an input, whole or, with `stream`, as events. Nothing is stored."""
    chat = body.as_chat()
    call = Call.of(request, principal, chat.model)
    try:
        asked = await asked_of(call, chat, chat.model_dump(mode="json", by_alias=True, exclude_none=True))
        writer = _Writer(call, body, steps_of(chat))
        if body.stream:
            events = writer.events(pieces(call, chat, asked, writer.tally))
            return await streamed(request, events, done=False, failure=writer.failure)
        answers = await unless_gone(request, gathered(call, chat, asked, writer.tally))
    except Exception as error:
        raise api_error(error, prompt_param="input") from error
    return JSONResponse(writer.reply(answers[0]))


class _Writer:
    """Makes the reply of one request."""

    def __init__(self, call: Call, body: ResponsesRequest, steps: Sequence[Step] = ()) -> None:
        self.tally = Tally()
        self._call, self._body = call, body
        self._steps = [_step_item(step) for step in steps]
        self._id, self._message_id = f"resp_{secrets.token_hex(16)}", f"msg_{secrets.token_hex(16)}"
        self._reasoning_ids = [f"rs_{secrets.token_hex(16)}" for _ in range(2)]
        self._split: int | None = None
        """Characters of reasoning before the text of a stream; None: all of it."""
        self._created, self._number = int(time.time()), 0

    def reply(self, answer: Answer | None) -> dict[str, Any]:
        """The response; None: not answered yet."""
        body, usage = self._body, None
        status = "in_progress" if answer is None else "incomplete" if answer.finish in _CUT else "completed"
        if answer is not None:
            usage = {
                "input_tokens": self.tally.prompt_tokens, "output_tokens": self.tally.completion_tokens,
                "total_tokens": self.tally.prompt_tokens + self.tally.completion_tokens,
                "input_tokens_details": {"cached_tokens": self.tally.cached_tokens},
                "output_tokens_details": {"reasoning_tokens": self.tally.reasoning_tokens},
            }  # fmt: skip
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": status, "error": None,
            "incomplete_details": {"reason": _CUT[answer.finish]} if answer is not None and answer.finish in _CUT else None,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens,
            "model": self._call.engine.name, "output": self._output(answer) if answer is not None else [],
            "parallel_tool_calls": body.parallel_tool_calls is not False, "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None}, "store": False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": body.text_out(),
            "tool_choice": body.tool_choice or "auto", "tools": body.tools or [],
            "top_p": 1.0 if body.top_p is None else body.top_p, "truncation": body.truncation or "disabled", "usage": usage,
            "user": body.user, "metadata": body.metadata or {}, "system_fingerprint": self.tally.version or None,
        }  # fmt: skip

    def _output(self, answer: Answer) -> list[dict[str, Any]]:
        status = "incomplete" if answer.finish in _CUT else "completed"
        message = [self._message([_part(answer.text)], status)] if answer.text or not answer.calls else []
        split = len(answer.reasoning) if self._split is None else self._split
        parts = zip(self._reasoning_ids, (answer.reasoning[:split], answer.reasoning[split:]), strict=True)
        before, after = ([_reasoning_item(identity, part)] if part else [] for identity, part in parts)
        return self._steps + before + message + after + [_call_item(call) for call in answer.calls]

    def _message(self, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
        return {"type": "message", "id": self._message_id, "status": status, "role": "assistant", "content": content}

    def _event(self, kind: str, **fields: Any) -> str:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return sse(event, kind)

    async def events(self, parts: AsyncGenerator[Piece | None, None]) -> AsyncGenerator[str, None]:
        """The stream of events."""
        answer, text_open, thinking = Answer(), False, False
        place: dict[str, Any] = {"item_id": self._message_id, "output_index": len(self._steps), "content_index": 0}
        async with aclosing(parts):
            async for piece in parts:
                if piece is None:
                    yield self._event("response.created", response=self.reply(None))
                    yield self._event("response.in_progress", response=self.reply(None))
                    for index, item in enumerate(self._steps):
                        yield self._event("response.output_item.added", output_index=index, item=item)
                        yield self._event("response.output_item.done", output_index=index, item=item)
                    continue
                if piece.reasoning and not text_open:
                    for event in self._reasoning(piece.reasoning, begins=not thinking):
                        yield event
                    thinking = True
                answer.take(piece)
                if piece.text and not text_open:
                    text_open, self._split = True, len(answer.reasoning)
                    place["output_index"] += thinking
                    for event in [*self._close_reasoning(answer, thinking), *self._open_text(place)]:
                        yield event
                if piece.text:
                    yield self._event("response.output_text.delta", **place, delta=piece.text, logprobs=[])
        if not text_open:
            place["output_index"] += thinking
            for event in self._close_reasoning(answer, thinking):
                yield event
        if not text_open and not answer.calls:
            text_open = True
            for event in self._open_text(place):
                yield event
        for event in self._close(answer, place, text_open):
            yield event

    def failure(self, error: dict[str, Any]) -> str:
        """The last events of a stream that fails. `error`: its detail."""
        code, message = error["code"] or "server_error", error["message"]
        failed = self.reply(None) | {"status": "failed", "error": {"code": code, "message": message}}
        event = self._event("error", code=error["code"], message=message, param=error["param"])
        return event + self._event("response.failed", response=failed)

    def _reasoning(self, delta: str, *, begins: bool) -> list[str]:
        place = {"item_id": self._reasoning_ids[0], "output_index": len(self._steps), "content_index": 0}
        made = []
        if begins:
            item = _reasoning_item(self._reasoning_ids[0], "") | {"content": [], "status": "in_progress"}
            made = [
                self._event("response.output_item.added", output_index=len(self._steps), item=item),
                self._event("response.content_part.added", **place, part=_reasoning_part("")),
            ]
        return [*made, self._event("response.reasoning_text.delta", **place, delta=delta)]

    def _close_reasoning(self, answer: Answer, thinking: bool) -> list[str]:
        if not thinking:
            return []
        item, text = self._output(answer)[len(self._steps)], answer.reasoning[: self._split]
        place = {"item_id": item["id"], "output_index": len(self._steps), "content_index": 0}
        return [
            self._event("response.reasoning_text.done", **place, text=text),
            self._event("response.content_part.done", **place, part=_reasoning_part(text)),
            self._event("response.output_item.done", output_index=len(self._steps), item=item),
        ]

    def _open_text(self, place: dict[str, Any]) -> list[str]:
        item = self._message([], "in_progress")
        return [
            self._event("response.output_item.added", output_index=place["output_index"], item=item),
            self._event("response.content_part.added", **place, part=_part("")),
        ]

    def _close(self, answer: Answer, place: dict[str, Any], text_open: bool) -> list[str]:
        made, items, at = [], self._output(answer), place["output_index"]
        if text_open:
            made = [
                self._event("response.output_text.done", **place, text=answer.text, logprobs=[]),
                self._event("response.content_part.done", **place, part=_part(answer.text)),
                self._event("response.output_item.done", output_index=at, item=items[at]),
            ]
        for index, item in enumerate(items):
            if item["type"] == "reasoning" and index > at:  # what came after the text had begun
                made += [
                    self._event("response.output_item.added", output_index=index, item=item),
                    self._event("response.output_item.done", output_index=index, item=item),
                ]
            if item["type"] != "function_call":
                continue
            where = {"item_id": item["id"], "output_index": index}
            begun = {**item, "arguments": "", "status": "in_progress"}
            written = {"arguments": item["arguments"], "name": item["name"]}
            made += [
                self._event("response.output_item.added", output_index=index, item=begun),
                self._event("response.function_call_arguments.delta", **where, delta=item["arguments"]),
                self._event("response.function_call_arguments.done", **where, **written),
                self._event("response.output_item.done", output_index=index, item=item),
            ]
        whole = self.reply(answer) | {"output": items}
        return [*made, self._event(f"response.{whole['status']}", response=whole)]


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning_part(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}


def _reasoning_item(identity: str, text: str) -> dict[str, Any]:
    content = [_reasoning_part(text)]
    return {"type": "reasoning", "id": identity, "summary": [], "content": content, "status": "completed"}


def _step_item(step: Step) -> dict[str, Any]:
    return {"type": "calculator_call", "id": f"cc_{secrets.token_hex(12)}", "status": "completed", **step.to_dict()}


def _call_item(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "function_call", "id": f"fc_{call.id.removeprefix('call_')}", "call_id": call.id, "name": call.name,
        "arguments": call.arguments, "status": "completed",
    }  # fmt: skip
