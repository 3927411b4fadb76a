"""No room on the disk while people label (R5): clear refusals, nothing acknowledged lost, and work goes on once there is,
without a restart."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import make_url

from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import prepare
from desk_data import project, task
from label_server import CLIENTS, READY_S, Client, Server, at_work, check_nothing_is_lost, no_models, signed_in
from workspaces import workspace_of

ROOT = Path(__file__).parents[2]
SOME = 25  # labels, or refusals, that are waited for


def until(reached: Callable[[], bool], clients: list[Client], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while not reached():
        assert not any(one.failed for one in clients), [one.failed for one in clients]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def acknowledged(clients: list[Client]) -> int:
    return sum(len(one.acknowledged) for one in clients)


def label_through(
    workspace: Workspace, trouble: Callable[[Server], contextlib.AbstractContextManager[None]], wanted: set[str]
) -> None:
    """People label before, during and after `trouble`; while it lasts every write is refused with one of `wanted`."""
    with workspace.session() as session:
        desk = project(session, overlap={"rank": CLIENTS})
        for n in range(300):
            task(session, desk, text=f"question {n}")
    url = "" if workspace.is_sqlite else workspace.engine.url.render_as_string(hide_password=False)
    sessions = [signed_in(workspace, f"labeller-{n}") for n in range(CLIENTS)]
    workspace.engine.dispose()
    with no_models() as upstream:
        server = Server(workspace=workspace.folder, upstream=upstream, url=url)
        clients = [Client(server, one) for one in sessions]
        try:
            server.start()
            with at_work(clients):
                until(lambda: acknowledged(clients) >= SOME, clients, "nobody could label before")
                with trouble(server):
                    until(lambda: all(len(one.refusals) >= 3 for one in clients), clients, "nobody was refused")
                    first = acknowledged(clients)
                    seen = sum(len(one.refusals) for one in clients)
                    until(lambda: sum(len(one.refusals) for one in clients) >= seen + SOME, clients, "refusals ended")
                    assert acknowledged(clients) == first  # nothing is said to be kept while nothing can be
                    if workspace.is_sqlite:
                        mine = httpx.get(f"{server.origin}/api/desk/labels", timeout=30, **sessions[0])
                        assert mine.status_code == 200 and mine.json()["labels"]  # what is kept can be read meanwhile
                until(lambda: acknowledged(clients) >= first + SOME, clients, "nobody could label afterwards")
            assert server.process is not None and server.process.poll() is None
        finally:
            server.kill()
    assert {said for one in clients for said in one.refusals} <= wanted
    check_nothing_is_lost(workspace, clients)


@contextlib.contextmanager
def no_file_grows(server: Server) -> Iterator[None]:
    """The system refuses every write beyond a file's first bytes, as a full disk does, with EFBIG in place of ENOSPC."""
    assert server.process is not None
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.timeout(300)
def test_labels_survive_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        label_through(workspace, no_file_grows, {"503 storage_failed"})


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root only")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Until not a byte is left; what is freed meanwhile is taken too."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_labels_survive_a_full_disk(tmp_path: Path) -> None:
    """Database, log and write-ahead log on the disk that is full."""
    disk = tmp_path / "disk"
    with small_disk(disk, 24), workspace_of("sqlite", disk) as workspace:
        label_through(workspace, lambda server: filled(disk), {"507 storage_full", "503 storage_failed"})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_labels_survive_a_full_disk_of_postgresql(tmp_path: Path) -> None:
    """A cluster of its own on a small disk. It may end itself when its log finds no room, and is then started again."""
    disk = tmp_path / "disk"
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    with small_disk(disk, 160):
        disk.chmod(0o755)
        for parent in list(disk.parents)[:3]:
            parent.chmod(0o755)  # its user has to get there
        place = str(disk / "cluster")
        url = subprocess.run([".ci/postgres", "start", place], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        try:
            with Workspace.open(tmp_path / "workspace", url.strip()) as workspace:
                prepare(workspace)
                label_through(
                    workspace, lambda server: filled_cluster(disk, url.strip()), {"507 storage_full", "503 storage_failed"}
                )
        finally:
            subprocess.run([".ci/postgres", "stop", place], cwd=ROOT, check=False)


@contextlib.contextmanager
def filled_cluster(disk: Path, url: str) -> Iterator[None]:
    with filled(disk):
        yield
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    control = [*as_user, str(binaries / "pg_ctl"), "-D", str(disk / "cluster" / "data")]
    if subprocess.run([*control, "status"], cwd="/", check=False, capture_output=True).returncode:
        port = make_url(url).port
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={disk / 'cluster'}"
        log = str(disk / "cluster" / "log")
        subprocess.run([*control, "-w", "-t", "60", "-l", log, "-o", options, "start"], cwd="/", check=True)
