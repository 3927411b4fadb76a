"""No acknowledged label is lost: R1 (kill -9 of a real server) and R2 (a 2xx only after the disk has it; torn logs)."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
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
import pytest
from sqlalchemy import event, select

from chatwright.feedback import store
from chatwright.feedback.tables import LabelEvent, LabelRow, TaskRow
from chatwright.serve.auth import digest
from chatwright.serve.auth_tables import LoginSession, User
from chatwright.workspace.database import DATABASE_FILE, Workspace, now
from desk_data import label, project, task
from workspaces import KINDS, workspace_of

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


@pytest.fixture
def upstream() -> Iterator[str]:
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

    def work(self) -> None:
        with httpx.Client(base_url=self.server.origin, timeout=30, **self.session) as http:
            waiting: dict[str, Any] | None = None
            while not self.stop.is_set() and not self.failed:
                try:
                    if waiting is None:
                        found = http.get("/api/desk/next").json()["task"]
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
                else:
                    self.failed.append(answer.text)


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


def kill_and_count(kind: str, folder: Path, upstream: str, kills: int) -> list[float]:
    """Kill the server `kills` times, each time after some more labels were acknowledged. Gives the seconds of starts."""
    rng = random.Random(kills)
    with workspace_of(kind, folder) as workspace:
        with workspace.session() as session:
            desk = project(session, overlap={"rank": CLIENTS})
            for n in range(40 * kills):
                task(session, desk, text=f"question {n}")
        url = "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False)
        server = Server(workspace=workspace.folder, upstream=upstream, url=url)
        clients = [Client(server, signed_in(workspace, f"labeller-{n}")) for n in range(CLIENTS)]
        try:
            server.start()
            with at_work(clients):
                for _ in range(kills):
                    wanted = sum(len(one.acknowledged) for one in clients) + rng.randint(3, 40)
                    deadline = time.monotonic() + READY_S
                    while sum(len(one.acknowledged) for one in clients) < wanted and time.monotonic() < deadline:
                        assert not any(one.failed for one in clients), [one.failed for one in clients]
                        time.sleep(0.002)
                    assert time.monotonic() < deadline, "no labels were acknowledged"
                    time.sleep(rng.random() * 0.01)
                    server.kill()
                    server.start()
                time.sleep(0.3)
        finally:
            server.kill()
        check_nothing_is_lost(workspace, clients)
        return server.restarts_s


def check_nothing_is_lost(workspace: Workspace, clients: list[Client]) -> None:
    acknowledged = [name for one in clients for name in one.acknowledged]
    assert not any(one.failed for one in clients), [one.failed for one in clients]
    assert any(one.sent_again for one in clients)  # something was cut off indeed
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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_killing_the_server_loses_no_acknowledged_label(kind: str, tmp_path: Path, upstream: str) -> None:
    assert len(kill_and_count(kind, tmp_path, upstream, 5)) == 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_kills(kind: str, tmp_path: Path, upstream: str) -> None:
    seconds = sorted(kill_and_count(kind, tmp_path, upstream, 100))
    middle = seconds[len(seconds) // 2]
    print(f"{kind}: 100 kills, starts took {seconds[0]:.2f} to {seconds[-1]:.2f} s, median {middle:.2f} s")


def cut(folder: Path, cuts: int) -> None:
    """Copy the database with its write-ahead log cut at random places; what is left must be a prefix of what was
    acknowledged, with everything whose log was whole."""
    rng = random.Random(cuts)
    with workspace_of("sqlite", folder) as workspace:
        workspace.engine.dispose()

        @event.listens_for(workspace.engine, "connect")
        def keep_the_log(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA wal_autocheckpoint=0").close()

        with workspace.session() as session:
            desk = project(session, overlap={"rank": 100})
            one = task(session, desk)
        database = workspace.folder / DATABASE_FILE
        log = database.with_name(f"{DATABASE_FILE}-wal")
        begun = log.stat().st_size
        acknowledged: list[tuple[str, int]] = []
        for n in range(40):
            with workspace.session() as session:
                name = label(session, one, f"labeller {n}", "C>A=B")
            acknowledged.append((name, log.stat().st_size))
        for number in range(cuts):
            size = rng.randint(begun, log.stat().st_size)
            copy = folder / f"cut-{number}"
            copy.mkdir()
            shutil.copy(database, copy / DATABASE_FILE)
            (copy / log.name).write_bytes(log.read_bytes()[:size] + rng.randbytes(rng.choice((0, 0, 100, 5000))))
            with Workspace.open(copy) as found, found.session() as session:
                kept = session.scalars(select(LabelRow.uuid).order_by(LabelRow.seq)).all()
                events = session.scalars(
                    select(LabelEvent.uuid).where(LabelEvent.kind == "label.submitted").order_by(LabelEvent.id)
                ).all()
            names = [name for name, _ in acknowledged]
            assert kept == events == names[: len(kept)]
            assert len(kept) >= sum(end <= size for _, end in acknowledged)
            shutil.rmtree(copy)


def test_a_torn_log_gives_a_prefix_of_what_was_acknowledged(tmp_path: Path) -> None:
    cut(tmp_path, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_torn_logs(tmp_path: Path) -> None:
    cut(tmp_path, 500)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_label_is_acknowledged_only_after_the_disk_has_it(tmp_path: Path, upstream: str) -> None:
    """In the order of the server's system calls: request read, log written, log synced, answer sent."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=recvfrom,read,sendto,write,pwrite64,fdatasync,fsync"
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            desk = project(session, overlap={"rank": 1})
            for _ in range(25):
                task(session, desk)
        session_of = signed_in(workspace, "ann")
        command = ("strace", "-f", "-y", "-s", "60", "-o", str(trace), "-e", calls)
        server = Server(workspace=workspace.folder, upstream=upstream, before=command)
        client = Client(server, session_of)
        try:
            server.start()
            client.work()
        finally:
            server.kill()
    lines = trace.read_text(errors="replace").splitlines()
    assert len(client.acknowledged) == 25
    checked, asked, written, synced = 0, False, False, False
    for line in lines:
        if re.search(r'(recvfrom|read)\(.*"POST /api/desk/labels', line):
            asked, written, synced = True, False, False
        elif asked and "pwrite64(" in line and "-wal" in line:
            written, synced = True, False
        elif asked and re.search(r"f(data)?sync\(.*-wal", line):
            synced = written
        elif asked and re.search(r'(sendto|write)\(.*"HTTP/1.1 200', line):
            assert written and synced, f"answer {checked} was sent before its label was on the disk"
            checked, asked = checked + 1, False
    assert checked == 25
