"""Answers as server-sent events, and the watch over clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chatwright.serve.openai.errors import APIError, api_error

Result = TypeVar("Result")
DONE = "data: [DONE]\n\n"
PING = ": ping\n\n"  # a comment, which clients skip
PING_S = 10.0  # without an event; proxies end connections that are silent for 60 s
CLOSED = 499  # as nginx names it; nobody is there to read it


def sse(data: dict[str, Any], event: str = "") -> str:
    """One event; ASCII only, so that no line separator of Unicode can end a line early."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n"


class EventStream(StreamingResponse):
    """A StreamingResponse that closes its iterator whatever happens, so that a client that goes away frees its place at
    once and not when the garbage collector comes by."""

    def __init__(self, parts: AsyncGenerator[str, None]) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(parts, media_type="text/event-stream", headers=headers)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See StreamingResponse."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._parts.aclose()


def _error_event(error: dict[str, Any]) -> str:
    return sse({"error": error})


async def streamed(
    request: Request, chunks: AsyncGenerator[str, None], *, done: bool = True,
    failure: Callable[[dict[str, Any]], str] = _error_event,
) -> EventStream:  # fmt: skip
    """A stream of finished events (`sse`), with a comment whenever none came for `PING_S`. What fails before the first of
    both is an ordinary error with its status; what fails later becomes an event (`failure` of the error's detail), as the
    status has been sent."""
    first = asyncio.ensure_future(anext(chunks))
    try:
        await unless_gone(request, _result_or_timeout(first))
    except BaseException:
        await _close(first, chunks)
        raise
    return EventStream(_parts(first, chunks, done, failure))


async def _result_or_timeout(first: asyncio.Future[str]) -> None:
    """Return once `first` is there, or after `PING_S`. Raises its error."""
    if (await asyncio.wait({first}, timeout=PING_S))[0]:
        first.result()


async def _close(item: asyncio.Future[str], chunks: AsyncGenerator[str, None]) -> None:
    item.cancel()
    await asyncio.gather(item, return_exceptions=True)
    await chunks.aclose()


async def _parts(
    item: asyncio.Future[str], chunks: AsyncGenerator[str, None], done: bool, failure: Callable[[dict[str, Any]], str]
) -> AsyncGenerator[str, None]:
    """`item`: the next chunk, which may not be there yet."""
    try:
        while True:
            while not (await asyncio.wait({item}, timeout=PING_S))[0]:
                yield PING
            yield item.result()
            item = asyncio.ensure_future(anext(chunks))
    except StopAsyncIteration:
        pass
    except Exception as error:
        yield failure(api_error(error).body()["error"])
    finally:
        await _close(item, chunks)
    if done:
        yield DONE


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away meanwhile."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise APIError(CLOSED, "the client closed the connection", code="client_closed_request")
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def together(streams: list[AsyncIterator[Result]], *, at_once: int = 32) -> AsyncGenerator[tuple[int, Result], None]:
    """Items of several streams as they come, each with its stream's number; not more than `at_once` streams run at a time.

    The first error ends all of them.
    """
    if len(streams) == 1:
        async for item in streams[0]:
            yield 0, item
        return
    ready: asyncio.Queue[tuple[int, Result] | BaseException | None] = asyncio.Queue(maxsize=64)
    places = asyncio.Semaphore(at_once)

    async def pump(number: int, stream: AsyncIterator[Result]) -> None:
        try:
            async with places:
                async for item in stream:
                    await ready.put((number, item))
            await ready.put(None)
        except Exception as error:
            await ready.put(error)

    tasks = [asyncio.create_task(pump(number, stream)) for number, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            found = await ready.get()
            if found is None:
                running -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
