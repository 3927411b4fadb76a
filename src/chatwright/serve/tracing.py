"""Traces by OpenTelemetry: one span per request, which carries the request's id. Plain ASGI; needs the [otel] extra.

A span is named by method and route template, never by a path, which may hold the secret of a share. No texts of people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatwright import __version__
from chatwright.errors import UsageError
from chatwright.serve.logs import request_id
from chatwright.serve.security import METHODS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def open_tracing() -> TracerProvider:
    """Sends spans by OTLP over HTTP to where OTEL_EXPORTER_OTLP_ENDPOINT says. Raises UsageError without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError("--otel: OpenTelemetry is not installed; pip install 'chatwright[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "chatwright", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Tracing:
    """A span around each request; a caller's `traceparent` header makes it a part of the caller's trace."""

    def __init__(self, app: ASGIApp, *, provider: TracerProvider) -> None:
        self.app, self.tracer = app, provider.get_tracer("chatwright.serve", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode

        status, method = 500, scope["method"] if scope["method"] in METHODS else "_OTHER"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.tracer.start_as_current_span(
            method, context=extract(Headers(scope=scope)), kind=SpanKind.SERVER,
            record_exception=False, set_status_on_exception=False,  # messages of errors may quote what people wrote
            attributes={"http.request.method": method, "chatwright.request_id": request_id.get()},
        ) as span:  # fmt: skip
            try:
                await self.app(scope, receive, answer)
            finally:
                route = getattr(scope.get("route"), "path", "") or "(none)"
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
