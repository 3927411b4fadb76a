from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatwright.serve import storage
from chatwright.serve.openai.errors import api_error
from chatwright.workspace.database import Workspace
from workspaces import workspace_of


class _Postgres(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("somebody's words")
        self.sqlstate = sqlstate


def of_state(sqlstate: str | None, *, lost: bool = False) -> DBAPIError:
    return DBAPIError("INSERT", None, _Postgres(sqlstate), connection_invalidated=lost)


def test_a_database_that_may_not_grow_is_full(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace, workspace.engine.connect() as connection:
        connection.execute(text("CREATE TABLE texts (text TEXT)"))
        connection.execute(text("PRAGMA max_page_count = 3"))
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("INSERT INTO texts VALUES (:text)"), {"text": "x" * 100_000})
    assert storage.trouble(caught.value) == storage.FULL
    told = api_error(caught.value)
    assert (told.status, told.code, told.headers["retry-after"]) == (507, "storage_full", "30")
    assert "nothing of this request was kept" in told.message and "texts" not in told.message


def test_a_database_that_another_holds_is_busy(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db", isolation_level=None) as holder:
        holder.execute("CREATE TABLE texts (text TEXT)")
        holder.execute("BEGIN EXCLUSIVE")
        engine = create_engine(f"sqlite:///{tmp_path / 'db'}", connect_args={"timeout": 0})
        with pytest.raises(OperationalError) as caught, engine.begin() as connection:
            connection.execute(text("INSERT INTO texts VALUES ('x')"))
        engine.dispose()
    holder.close()
    assert storage.trouble(caught.value) == storage.BUSY and api_error(caught.value).status == 503


def test_a_postgresql_that_has_gone_is_a_failure(tmp_path: Path) -> None:
    with workspace_of("postgresql", tmp_path) as workspace:
        with pytest.raises(SQLAlchemyError) as caught, workspace.reading() as session:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert storage.trouble(caught.value) == storage.FAILED
        with workspace.reading() as session:  # the next request has a new connection
            assert session.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize(
    "state, kind",
    [
        ("53100", storage.FULL), ("40001", storage.BUSY), ("40P01", storage.BUSY), ("57P01", storage.FAILED),
        ("08006", storage.FAILED), ("23505", ""), ("42P01", ""), (None, ""),
    ],
)  # fmt: skip
def test_states_of_postgresql(state: str | None, kind: str) -> None:
    assert storage.trouble(of_state(state)) == kind
    assert storage.trouble(of_state(state, lost=True)) == (kind or storage.FAILED)


def test_the_rest() -> None:
    assert storage.trouble(OSError(errno.ENOSPC, "no space")) == storage.FULL
    assert storage.trouble(FileNotFoundError(errno.ENOENT, "no file")) == ""
    assert storage.trouble(PoolTimeout("pool")) == storage.BUSY
    assert storage.trouble(ValueError("bad")) == ""
    assert storage.trouble(IntegrityError("INSERT", None, sqlite3.IntegrityError("twice"))) == ""
    assert api_error(FileNotFoundError(errno.ENOENT, "/secret/place")).status == 500
    assert set(storage.STATUS) == set(storage.WORDS) == set(storage.RETRY_S)
