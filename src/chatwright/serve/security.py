"""What every request passes before a route sees it: request ids, Host, limits on bodies, headers of safety. Plain ASGI.

Bodies are read whole, within a deadline, before the application starts: a half-sent request holds no slot of anything.
Large ones need a valid key or session, and are checked in a thread. JSON that Python would accept but a database or a
client would not (NaN, half surrogate pairs, NUL) is refused here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatwright.serve.auth import is_known
from chatwright.serve.logs import request_id as current_request
from chatwright.serve.metrics import Metrics
from chatwright.serve.openai.errors import APIError, api_error
from chatwright.serve.settings import ServeConfig

MAX_BODY_BYTES = 2_000_000
MAX_ANONYMOUS_BYTES = 65_536  # without a valid key or session
MAX_BYTES_OF = {"/api/conversations/import": 16_000_000}
"""Addresses that take more: an own export of a long chat has to fit."""
MAX_JSON_DEPTH = 64
MAX_JSON_VALUES = 50_000
SHORT_BYTES = 32_768  # checked at once; longer bodies in a thread
BODY_DEADLINE_S = 8.0
LINGER_S = 4.0
LINGER_BYTES = 16_000_000
"""Limits within which a refused body is read and dropped, so that the client sees the answer."""
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
CSP = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "img-src 'self' data: blob:"
)
# Strings are skipped whole, and up to 8 plain integers (token ids) count as one value; possessive loops cannot backtrack.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]|(?<!\d)(?:\d++, ?){2,8}+', re.DOTALL)
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_QUOTE = ord('"')
log = logging.getLogger("chatwright.access")


class Context:
    """Outermost: names the request, counts and logs it, and adds the headers of safety."""

    def __init__(self, app: ASGIApp, *, settings: ServeConfig, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if re.fullmatch(r"[\w-]{1,64}", given, re.ASCII) else f"req_{secrets.token_hex(12)}"
        state = scope.setdefault("state", {})
        state["request_id"] = name
        token = current_request.set(name)
        started, status, answered = time.perf_counter(), 500, False

        async def answer(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                self._add_headers(MutableHeaders(scope=message), scope, name)
            await send(message)

        self.metrics.open.inc()
        try:
            await self.app(scope, receive, answer)
        except Exception as error:  # here the answer gets its headers, and the log its request id
            if answered:
                raise
            await api_error(error).response()(scope, receive, answer)
        finally:
            self.metrics.open.dec()
            self._account(scope, status, time.perf_counter() - started)
            current_request.reset(token)

    def _add_headers(self, headers: MutableHeaders, scope: Scope, name: str) -> None:
        headers["x-request-id"] = name
        for key, value in scope["state"].get("extra_headers", {}).items():
            headers[key] = value
        headers.setdefault("content-security-policy", CSP)
        headers["x-content-type-options"] = "nosniff"
        headers["referrer-policy"] = "no-referrer"
        headers["cross-origin-opener-policy"] = "same-origin"
        headers["cross-origin-resource-policy"] = "same-origin"
        headers.setdefault("cache-control", "no-store")
        if self.settings.secure:
            headers["strict-transport-security"] = "max-age=31536000"

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "") or "(none)"  # a path may hold the secret of a share
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        log.info("request", extra={"fields": {**fields, "principal": scope["state"].get("principal_id", "")}})


class Gate:
    """Refuses foreign Host headers and bodies that are too big, too slow, too deep, or not what JSON may hold."""

    def __init__(self, app: ASGIApp, *, settings: ServeConfig, body_deadline_s: float = BODY_DEADLINE_S) -> None:
        self.app, self.settings, self.body_deadline_s = app, settings, body_deadline_s
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bodies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        arriving = Arriving(receive, sent="expect" not in headers)
        try:
            hosts = headers.getlist("host")
            if len(hosts) != 1 or not self.settings.knows_host(hosts[0]):
                raise APIError(421, "Host: this server does not answer to that name", code="unknown_host")
            if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
                raise APIError(400, "the address holds a NUL character", code="invalid_url")
            body = await self._body(scope, headers, arriving)
            if body and "json" in headers.get("content-type", "json"):
                await self._check(body)
        except APIError as error:
            if not arriving.ended:
                error.headers["connection"] = "close"
            await _refuse(error.response(), arriving, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    async def _check(self, body: bytes) -> None:
        if len(body) <= SHORT_BYTES:
            check_json(body)
        else:
            await asyncio.get_running_loop().run_in_executor(self._threads, check_json, body)

    async def _refuse_strangers(self, scope: Scope) -> None:
        """APIError 413 for a large body without a valid key or session."""
        if not await asyncio.get_running_loop().run_in_executor(self._threads, is_known, Request(scope)):
            raise APIError(
                413, f"a body of more than {MAX_ANONYMOUS_BYTES} bytes needs a valid API key, or to be signed in",
                code="body_too_large",
            )  # fmt: skip

    async def _body(self, scope: Scope, headers: Headers, arriving: Arriving) -> bytes:
        most = MAX_BYTES_OF.get(scope["path"], MAX_BODY_BYTES)
        too_big = APIError(413, f"the body is larger than {most} bytes", code="body_too_large")
        if headers.get("content-length", "0").strip() not in ("", "0") and int(headers["content-length"]) > most:
            raise too_big
        parts, size, known = [], 0, False
        try:
            async with asyncio.timeout(self.body_deadline_s):
                while not arriving.ended:
                    parts.append(await arriving.part())
                    size += len(parts[-1])
                    if size > most:
                        raise too_big
                    if size > MAX_ANONYMOUS_BYTES and not known:
                        await self._refuse_strangers(scope)
                        known = True
                return b"".join(parts)
        except TimeoutError as error:
            arriving.awaited = False
            raise APIError(408, f"the body did not arrive within {self.body_deadline_s:g} s", code="timeout") from error


class Arriving:
    """The body of a request, part by part."""

    def __init__(self, receive: Receive, *, sent: bool) -> None:
        """`sent`: the client sends the body without asking first (`Expect: 100-continue`)."""
        self._receive = receive
        self.ended = False
        self.awaited = sent
        """An answer that ends the connection waits for the rest of the body."""

    async def part(self) -> bytes:
        """The next bytes. APIError 400 when the client has gone."""
        message = await self._receive()
        self.awaited = True
        if message["type"] == "http.disconnect":
            self.ended = True
            raise APIError(400, "the client went away", code="disconnected")
        self.ended = not message.get("more_body")
        return bytes(message.get("body", b""))


async def _refuse(response: Response, arriving: Arriving, send: Send) -> None:
    """Answer, then read what the client is still sending, within limits, and only then end the answer. Closing a
    connection that holds unread bytes resets it, and the client would not see the answer (RFC 9112, 9.6)."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    left = LINGER_BYTES if arriving.awaited else 0
    with suppress(TimeoutError, APIError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and not arriving.ended:
                left -= len(await arriving.part())
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def check_json(body: bytes) -> None:
    """APIError 400 for bytes that are not JSON, are nested too deeply, have too many values, or hold what JSON texts must
    not. Parsing them holds the interpreter, so they are counted before."""
    depth, values = 0, 1
    for match in _STRUCTURE.finditer(body):
        first = body[match.start()]
        if first == _QUOTE:
            continue
        depth += (first in b"[{") - (first in b"]}")
        values += first not in b"]}"
        if depth > MAX_JSON_DEPTH:
            raise APIError(400, f"the JSON is nested more than {MAX_JSON_DEPTH} levels deep", code="json_too_deep")
        if values > MAX_JSON_VALUES:
            raise APIError(400, f"the JSON has more than {MAX_JSON_VALUES} values", code="json_too_large")
    try:
        value = json.loads(body, parse_constant=_refuse_number, parse_float=_finite)
    except APIError:
        raise
    except ValueError as error:  # also not UTF-8, and integers of thousands of digits
        raise APIError(400, "the body is not valid JSON", code="invalid_json") from error
    if b"\\u" in body or b"\0" in body:
        for text in _texts(value):
            if _NO_TEXT.search(text):
                raise APIError(400, "the JSON holds a NUL character or half of a surrogate pair", code="invalid_text")


def _refuse_number(text: str) -> float:
    raise APIError(400, f"the JSON holds {text}, which is not a JSON number", code="invalid_json")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise APIError(400, "the JSON holds a number that is too large", code="invalid_json")
    return number


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.keys()
            waiting += one.values()
