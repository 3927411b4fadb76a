from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text

from chatwright.errors import ConfigError, UsageError
from chatwright.serve.auth_tables import User
from chatwright.serve.tables import metadata
from chatwright.workspace import migrations
from chatwright.workspace.database import Workspace
from workspaces import KINDS, workspace_of


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_make_what_the_code_declares(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        assert migrations.current(workspace) == migrations.head() != ""
        assert migrations.differences(workspace, metadata()) == []
        with workspace.session() as session:
            session.execute(text("DROP TABLE audit_events"))
        assert migrations.differences(workspace, metadata())


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


def test_older_and_newer_databases_are_refused(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(UsageError, match="newer"):
            migrations.prepare(workspace)


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
