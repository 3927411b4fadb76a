"""No acknowledged label is lost: R1 (kill -9 of a real server) and R2 (a 2xx only after the disk has it; torn logs)."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from chatwright.feedback.tables import LabelEvent, LabelRow
from chatwright.workspace.database import DATABASE_FILE, Workspace
from desk_data import label, project, task
from label_server import CLIENTS, READY_S, Client, Server, at_work, check_nothing_is_lost, no_models, signed_in
from workspaces import KINDS, workspace_of


@pytest.fixture
def upstream() -> Iterator[str]:
    with no_models() as url:
        yield url


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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_killing_the_server_loses_no_acknowledged_label(kind: str, tmp_path: Path, upstream: str) -> None:
    assert len(kill_and_count(kind, tmp_path, upstream, 3)) == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
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
