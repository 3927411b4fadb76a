from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from chatwright.errors import UsageError
from chatwright.serve import http, security
from chatwright.serve.app import create_app
from chatwright.serve.engine import EngineRegistry
from chatwright.serve.run import bootstrap_key, listen
from chatwright.serve.settings import ServeConfig
from workspaces import workspace_of

HEAD = b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server on a free port, with deadlines of half a second."""
    monkeypatch.setattr(http, "HEADER_DEADLINE_S", 0.5)
    settings = ServeConfig(port=0)
    with workspace_of("sqlite", tmp_path) as workspace, listen(settings) as listener:
        app = create_app(settings, EngineRegistry(), workspace)
        for middleware in app.user_middleware:
            if middleware.cls is security.Gate:
                middleware.kwargs["body_deadline_s"] = 0.5
        server = uvicorn.Server(uvicorn.Config(app, http=http.DeadlineProtocol, ws="none", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", b""), (HEAD, b""), (HEAD + b"Content-Length: 9\r\n\r\n{", b"HTTP/1.1 408"),
     (b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /do", b"HTTP/1.1 200")],
    ids=["silent", "half of the headers", "half of the body", "half of a second request"],
)  # fmt: skip
def test_half_sent_requests_are_closed(port: int, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        started, got = time.monotonic(), b""
        while piece := client.recv(65536):
            got += piece
        assert time.monotonic() - started < 15
        assert got.startswith(status) if status else got == b""


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"127.0.0.1", b"elsewhere.example")], ids=["too large", "foreign host"])
def test_a_client_that_sends_its_body_first_sees_why_it_was_refused(port: int, head: bytes) -> None:
    size = security.MAX_BODY_BYTES + 1_000_000
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        time.sleep(0.5)  # a server that does not read on has closed the connection by then
        client.sendall(b"a" * size)
        got = b""
        while piece := client.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 4") and b"body_too_large" in got or b"unknown_host" in got


def test_a_port_in_use_is_named(port: int) -> None:
    with pytest.raises(UsageError, match=f"127.0.0.1:{port}: cannot listen"):
        listen(ServeConfig(port=port))


def test_the_bootstrap_key_is_told_once_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATWRIGHT_API_KEY", raising=False)
    with workspace_of("sqlite", tmp_path) as workspace:
        key, path = bootstrap_key(workspace), workspace.folder / "api-key"
        assert key and path.read_text(encoding="utf-8").strip() == key and path.stat().st_mode & 0o777 == 0o600
        assert bootstrap_key(workspace) is None
        monkeypatch.setenv("CHATWRIGHT_API_KEY", "short")
        with pytest.raises(UsageError, match="16 characters"):
            bootstrap_key(workspace)


def test_a_client_that_does_not_read_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "WRITE_DEADLINE_S", 1.0)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.settimeout(30)
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 40)
        ends_at = time.monotonic() + 30
        with pytest.raises(OSError):  # the server has closed without sending the rest
            while time.monotonic() < ends_at:
                time.sleep(0.2)
                client.send(b"x")
