from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from chatwright.errors import ChatwrightError, ConfigError, UsageError
from chatwright.serve.auth_tables import User
from chatwright.serve.tables import metadata
from chatwright.workspace import database, migrations
from chatwright.workspace.database import DATABASE_FILE, Workspace
from chatwright.workspace.migrations import authoring
from workspaces import KINDS, workspace_of


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_make_what_the_code_declares(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        assert migrations.current(workspace) == migrations.head() != ""
        assert authoring.differences(workspace, metadata()) == []
        with workspace.session() as session:
            session.execute(text("DROP TABLE audit_events"))
        assert authoring.differences(workspace, metadata())


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_session_leaves_nothing_behind(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with pytest.raises(RuntimeError), workspace.session() as session:
            session.add(User(name="ada", role="member"))
            session.flush()
            raise RuntimeError
        with workspace.session() as session:
            session.add(User(name="bob", role="member"))
        with workspace.reading() as session:
            assert session.scalars(select(User.name)).all() == ["bob"]


def test_sqlite_is_set_up_for_durable_and_concurrent_writes(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.reading() as session:
            pragmas = ("journal_mode", "synchronous", "foreign_keys")
            found = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in pragmas]
        assert found == ["wal", 2, 1]

        def write(writer: int) -> None:
            for n in range(20):
                with workspace.session() as session:
                    session.scalars(select(User)).all()  # read, then write: a deferred transaction would fail here
                    session.add(User(name=f"{writer}-{n}", role="member"))

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with workspace.reading() as session:
            assert len(session.scalars(select(User.id)).all()) == 80


def test_a_writer_waits_for_its_turn_and_always_returns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    with workspace_of("sqlite", tmp_path) as workspace:
        with pytest.raises(RuntimeError), workspace.session() as session:
            session.add(User(name="ada", role="member"))
            session.flush()
            raise RuntimeError
        with pytest.raises(IntegrityError), workspace.session() as session:
            session.add_all([User(name="ada", role="member"), User(name="ada", role="member")])
        other = sqlite3.connect(workspace.folder / DATABASE_FILE, isolation_level=None)  # as another process
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"), workspace.session() as session:
            session.add(User(name="bob", role="member"))
        other.close()
        begun, end = threading.Event(), threading.Event()

        def write_slowly() -> None:
            with workspace.session() as session:
                session.add(User(name="carla", role="member"))
                session.flush()
                begun.set()
                end.wait(60)

        slow = threading.Thread(target=write_slowly)
        slow.start()
        assert begun.wait(60)
        with workspace.reading() as session:
            assert session.scalars(select(User.name)).all() == []  # a reader waits for nobody
        with pytest.raises(OperationalError, match="locked"), workspace.session() as session:
            session.add(User(name="dora", role="member"))
        monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 60_000)
        threading.Timer(0.5, end.set).start()
        with workspace.session() as session:  # far past SQLite's own patience, which is 0.2 s here
            session.add(User(name="emil", role="member"))
        slow.join(60)
        with workspace.reading() as session:
            assert session.scalars(select(User.name).order_by(User.name)).all() == ["carla", "emil"]


def test_older_and_newer_databases_are_refused(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(UsageError, match="newer"):
            migrations.prepare(workspace)


def truncated(path: Path) -> None:
    path.write_bytes(b"")


def not_a_database(path: Path) -> None:
    path.write_text("id,text\n1,hello\n" * 100, encoding="utf-8")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "is empty.*backup"),
        (not_a_database, "cannot be opened: file is not a database"),
        (half, "damaged|malformed"),
        (a_folder, "cannot be opened: unable to open"),
    ],
)
def test_damaged_database_files_are_refused_and_kept(damage: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        path = workspace.folder / DATABASE_FILE
    damage(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(ChatwrightError, match=said), Workspace.open(path.parent) as opened:
        migrations.prepare(opened)
    assert not path.is_file() or path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o400, 0o500, 0o000])
@pytest.mark.parametrize("which", ["folder", "file"])
def test_missing_permissions_are_named(which: str, mode: int, tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        folder = workspace.folder
    path = folder if which == "folder" else folder / DATABASE_FILE
    with not_root(tmp_path, folder, folder / DATABASE_FILE):
        path.chmod(mode)
        try:
            with pytest.raises(ConfigError, match=f"{path.name}.*owner and permissions"), Workspace.open(folder):
                pass
        finally:
            path.chmod(0o700)
    occupied = tmp_path / "occupied"
    occupied.write_text("x", encoding="utf-8")
    for place in (occupied, occupied / "below"):
        with pytest.raises(ConfigError, match="cannot be made"):
            Workspace.open(place)


@contextmanager
def not_root(tmp_path: Path, *paths: Path) -> Iterator[None]:
    """Root may do everything: act as another user who owns `paths`."""
    if os.geteuid() != 0:
        yield
        return
    modes = {parent: parent.stat().st_mode for parent in (tmp_path, *tmp_path.parents)}
    nobody = 65534
    for path in paths:
        os.chown(path, nobody, nobody)
    for parent, mode in modes.items():
        if os.stat(parent).st_uid == 0 and not mode & 0o001:
            parent.chmod(mode | 0o011)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in modes.items():
            if parent.stat().st_mode != mode:
                parent.chmod(mode)


def test_one_server_per_workspace(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as first, Workspace.open(tmp_path) as second:
        first.lock()
        with pytest.raises(UsageError, match="already running"):
            second.lock()
        first.close()
        second.lock()


@pytest.mark.parametrize(
    ("url", "said"),
    [("nonsense", "not a database"), ("mysql://x/y", "only sqlite and"), ("sqlite:////no/such/x.db", "cannot be opened")],
)
def test_bad_urls_are_named(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        Workspace.open(tmp_path, url)
