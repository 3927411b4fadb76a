"""`chatwright serve` as a process of its own, and people who label at it: for tests of what a crash or a full disk loses."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from chatwright.feedback import store
from chatwright.feedback.tables import LabelEvent, LabelRow, TaskRow
from chatwright.serve.auth import digest
from chatwright.serve.auth_tables import LoginSession, User
from chatwright.workspace.database import Workspace, now

CLIENTS = 4
READY_S = 90.0


def signed_in(workspace: Workspace, name: str) -> dict[str, Any]:
    """Cookie and header of somebody's browser."""
    token, csrf = uuid.uuid4().hex, uuid.uuid4().hex
    with workspace.session() as session:
        user = User(name=name, role="labeller", password_hash="")
        session.add(user)
        session.flush()
        session.add(LoginSession(token_hash=digest(token), user_id=user.id, csrf=csrf, expires_at=now() + 86_400))
    return {"cookies": {"chatwright_session": token}, "headers": {"x-csrf-token": csrf}}


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"data": [{"id": "none"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def no_models() -> Iterator[str]:
    """A model server that is never asked for an answer: the server under test then does without torch."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Models) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@dataclass
class Server:
    """`chatwright serve` as a process of its own."""

    workspace: Path
    upstream: str
    """Of a server that tells the name of a model and nothing else."""
    url: str = ""
    """Of the database; "": SQLite."""
    before: tuple[str, ...] = ()
    """What the command is run under."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    restarts_s: list[float] = field(default_factory=list)

    def start(self) -> None:
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        config = self.workspace / "serve.toml"
        config.write_text(
            f'model = []\nupstream = ["none={self.upstream}"]\nport = {self.port}\nworkspace = "{self.workspace}"\n'
        )
        command = [*self.before, sys.executable, "-m", "chatwright", "serve", "--config", str(config)]
        env = {**os.environ, **({"CHATWRIGHT_DATABASE_URL": self.url} if self.url else {})}
        started = time.monotonic()
        with (self.workspace / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        while time.monotonic() - started < READY_S:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.origin}/api/session", timeout=5).status_code == 200:
                    self.restarts_s.append(time.monotonic() - started)
                    return
            assert self.process.poll() is None, (self.workspace / "log").read_text()
            time.sleep(0.02)
        raise AssertionError("the server does not answer")

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@dataclass
class Client:
    """Somebody who labels until told to stop, and sends again whatever was not acknowledged."""

    server: Server
    session: dict[str, Any]
    acknowledged: list[str] = field(default_factory=list)
    sent_again: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    failed: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Answers that told of trouble with the storage: status and code."""

    def work(self) -> None:
        with httpx.Client(base_url=self.server.origin, timeout=30, **self.session) as http:
            waiting: dict[str, Any] | None = None
            while not self.stop.is_set() and not self.failed:
                try:
                    if waiting is None:
                        answer = http.post("/api/desk/next")
                        if self.refused_for_now(answer):
                            continue
                        found = answer.json()["task"]
                        if found is None:
                            return
                        waiting = {"uuid": str(uuid.uuid4()), "task": found["id"], "value": {"ranking": "B>A=C"}}
                    answer = http.post("/api/desk/labels", json=waiting)
                except httpx.TransportError:
                    self.sent_again += 1
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    self.acknowledged.append(waiting["uuid"])
                    waiting = None
                elif not self.refused_for_now(answer):
                    self.failed.append(answer.text)

    def refused_for_now(self, answer: httpx.Response) -> bool:
        """Whether the storage is in trouble; the same is then sent again, as the web app's outbox does."""
        if answer.status_code not in (503, 507):
            return False
        assert int(answer.headers["retry-after"]) >= 1
        self.refusals.append(f"{answer.status_code} {answer.json()['error']['code']}")
        time.sleep(0.05)
        return True


@contextlib.contextmanager
def at_work(clients: list[Client]) -> Iterator[None]:
    threads = [threading.Thread(target=one.work, daemon=True) for one in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in clients:
            one.stop.set()
        for thread in threads:
            thread.join(60)


def check_nothing_is_lost(workspace: Workspace, clients: list[Client]) -> None:
    acknowledged = [name for one in clients for name in one.acknowledged]
    assert not any(one.failed for one in clients), [one.failed for one in clients]
    assert any(one.sent_again or one.refusals for one in clients)  # something was cut off indeed
    with workspace.session() as session:
        events = session.scalars(select(LabelEvent.uuid).where(LabelEvent.kind == "label.submitted")).all()
        labels = session.scalars(select(LabelRow)).all()
        assert set(acknowledged) <= set(events) and len(acknowledged) == len(set(acknowledged))
        assert len(events) <= len(acknowledged) + CLIENTS  # at most the one that each was waiting for
        assert Counter(events) == Counter(row.uuid for row in labels) and {row.state for row in labels} == {"current"}
        assert max(Counter((row.task_id, row.labeller) for row in labels).values()) == 1
        counted = Counter(row.task_id for row in labels)
        before = {row.id: (row.labels_count, row.state) for row in session.scalars(select(TaskRow))}
        assert {one: count for one, (count, _) in before.items() if count} == counted
        store.rebuild(session)
        assert {row.id: (row.labels_count, row.state) for row in session.scalars(select(TaskRow))} == before
