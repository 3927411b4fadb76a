"""uvicorn's HTTP protocol with a deadline for request headers, which it lacks: half-sent ones would stay open for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_DEADLINE_S = 8.0
WRITE_DEADLINE_S = 60.0
"""For a client to take what fills the socket's buffer (64 kB), or the rest of an answer."""


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose next request has not arrived whole (up to its body) in time.

    The clock starts with the connection and with the first bytes of each later request; uvicorn's own keep-alive timer
    closes the ones that stay silent in between. A client that does not read its answer is cut off, too.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _blocked_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._watch()
        self._check_reader()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop_watching()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """See asyncio."""
        self._blocked_since = None
        super().resume_writing()

    def _check_reader(self) -> None:
        """Cut off a client that takes nothing: all is written but not sent, or writing waits for the client."""
        over = self.cycle is None or self.cycle.response_complete
        blocked = self.transport.get_write_buffer_size() > 0 and (over or self.flow.write_paused)
        now = self.loop.time()
        if not blocked:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        elif now - self._blocked_since >= WRITE_DEADLINE_S:
            self.transport.abort()
            return
        self._write_timer = self.loop.call_later(WRITE_DEADLINE_S / 4, self._check_reader)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(HEADER_DEADLINE_S, self._too_late)

    def _stop_watching(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_late(self) -> None:
        self._header_timer = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


class HeadRequests:
    """Answers HEAD as GET without its body, for pages, files and /health. /v1 and /api keep their methods."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].startswith(("/v1/", "/api/")):
            await self.app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app({**scope, "method": "GET"}, receive, send_headers)


class ApiCors:
    """Lets pages of other origins call /v1 with an API key. Never with cookies, and no other path."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self.app = app
        self._cors = CORSMiddleware(
            app, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"], allow_credentials=False,
            expose_headers=["x-request-id", "retry-after"],
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        of_api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self._cors if of_api else self.app)(scope, receive, send)
