from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from chatwright.errors import UsageError
from chatwright.serve.app import create_app
from chatwright.serve.auth import public
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.settings import ServeConfig
from chatwright.serve.tracing import open_tracing
from workspaces import browser, workspace_of


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(tmp_path: Path, spans: InMemorySpanExporter) -> Iterator[FastAPI]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with workspace_of("sqlite", tmp_path) as workspace:
        yield create_app(ServeConfig(), EngineRegistry(), workspace, tracing=provider)
    provider.shutdown()


def test_a_request_is_a_span_with_its_id(app: FastAPI, spans: InMemorySpanExporter) -> None:
    answer = browser(app).get("/api/shares/secret-of-a-share", headers={"x-request-id": "mine-7"})
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /api/shares/{token}" and span.kind is SpanKind.SERVER
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/api/shares/{token}",
        "http.response.status_code": answer.status_code,
        "chatwright.request_id": "mine-7",
    }
    assert "secret-of-a-share" not in span.to_json()


def test_a_span_belongs_to_the_callers_trace(app: FastAPI, spans: InMemorySpanExporter) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    browser(app).get("/health", headers={"traceparent": f"00-{trace}-{parent}-01"})
    (span,) = spans.get_finished_spans()
    assert span.context is not None and f"{span.context.trace_id:032x}" == trace
    assert span.parent is not None and f"{span.parent.span_id:016x}" == parent


def test_a_failure_marks_its_span_and_keeps_its_words_out(app: FastAPI, spans: InMemorySpanExporter) -> None:
    def broken() -> None:
        raise RuntimeError("what somebody wrote")

    app.add_api_route("/v1/broken", broken, dependencies=[Depends(public)])
    app.router.routes.insert(0, app.router.routes.pop())  # before the web app's page for every other address
    assert browser(app).get("/v1/broken").status_code == 500
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "what somebody wrote" not in span.to_json() and not span.events


def test_what_the_gate_refuses_has_a_span_too(app: FastAPI, spans: InMemorySpanExporter) -> None:
    browser(app).request("SPELL", "/health", headers={"host": "evil.example"})
    (span,) = spans.get_finished_spans()
    assert span.name == "_OTHER (none)" and (span.attributes or {})["http.response.status_code"] == 421


def test_spans_reach_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    for name in ("OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Collector) as collector, workspace_of("sqlite", tmp_path) as workspace:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        provider = open_tracing()
        app = create_app(ServeConfig(), EngineRegistry(), workspace, tracing=provider)
        browser(app).get("/health", headers={"x-request-id": "mine-8"})
        provider.shutdown()
        collector.shutdown()
        thread.join(20)
    assert [path for path, _ in got] == ["/v1/traces"] and b"mine-8" in got[0][1] and b"chatwright" in got[0][1]


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match=r"chatwright\[otel\]"):
        open_tracing()
