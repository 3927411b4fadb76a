"""One database for everything people make: SQLite in the workspace folder by default, PostgreSQL by URL.

On SQLite a write is durable when its session has ended (WAL, `synchronous=FULL`), and sessions that write take the lock
at their start (`BEGIN IMMEDIATE`): two writers wait for one another instead of failing half-way.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

from chatwright.errors import ConfigError, UsageError

BUSY_TIMEOUT_MS = 10_000
DATABASE_FILE = "chatwright.sqlite3"


class Base(DeclarativeBase):
    """Base of all tables; constraints have names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def new_id(prefix: str) -> str:
    """A name nobody can guess: `prefix_` and 128 random bits."""
    return f"{prefix}_{secrets.token_hex(16)}"


def now() -> float:
    """Seconds since 1970, UTC: how all tables keep times."""
    return time.time()


def relative_path(session: Session, path: str | Path) -> str:
    """A path for the database: relative to the workspace's folder where it lies in it, so that the folder can be moved."""
    path, folder = Path(path).absolute(), Path(session.info["folder"]).absolute()
    for one, base in ((path, folder), (path.resolve(), folder.resolve())):
        if one.is_relative_to(base):
            return one.relative_to(base).as_posix()
    return str(path)


def located_path(session: Session, stored: str) -> Path:
    """The absolute path of one that `relative_path` made."""
    return Path(session.info["folder"]).absolute() / stored


class Workspace:
    """A folder and its database."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self._lock: int | None = None

    @classmethod
    def open(cls, folder: str | Path, url: str = "") -> Workspace:
        """Open, or begin, a workspace; `url` names a database elsewhere. Raises ConfigError when it cannot be reached."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"workspace {folder}: this folder cannot be made ({error.strerror})") from error
        if not url:
            _refuse_unusable(folder)
        url = url or f"sqlite:///{(folder / DATABASE_FILE).absolute()}"
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise ConfigError("database: this is not a database URL, such as postgresql://user@host/name") from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        shown = parsed.render_as_string(hide_password=True)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(f"database {shown}: only sqlite and postgresql are supported")
        try:
            # Errors that quote a statement's values would show what people wrote.
            engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=parsed.get_backend_name() == "postgresql")
            if parsed.get_backend_name() == "sqlite":
                _prepare_sqlite(engine)
            with engine.connect():
                pass
        except ModuleNotFoundError as error:
            raise ConfigError(f"database {shown}: install its driver with: pip install 'chatwright[postgres]'") from error
        except DBAPIError as error:
            raise ConfigError(f"database {shown}: cannot be opened: {str(error.orig).strip()}") from error
        return cls(folder, engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file in the folder."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that writes: committed at the end, undone by an exception."""
        with Session(self.engine, expire_on_commit=False, info={"folder": self.folder}) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads: it waits for no writer."""
        engine = self.engine.execution_options(chatwright_reading=True)
        with Session(engine, expire_on_commit=False, info={"folder": self.folder}) as session:
            yield session
            session.expunge_all()  # a rollback would empty what was read
            session.rollback()

    def lock(self) -> None:
        """Keep other servers out of this workspace until `close`. Raises UsageError when one is running."""
        path = self.folder / "serve.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise UsageError(
                f"{self.folder}: a server (process {owner or 'unknown'}) is already running in this workspace; "
                "stop it, or start this one with another --workspace"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def close(self) -> None:
        """Close every connection and give the lock back."""
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _refuse_unusable(folder: Path) -> None:
    """Say what is wrong with a folder before SQLite fails half-way in it."""
    path = folder / DATABASE_FILE
    for one in (folder, path, folder / f"{DATABASE_FILE}-wal", folder / f"{DATABASE_FILE}-shm"):
        needed = os.R_OK | os.W_OK | (os.X_OK if one.is_dir() else 0)
        allowed = os.access(one, needed, effective_ids=os.access in os.supports_effective_ids)
        if not allowed and one.exists():
            raise ConfigError(f"{one}: may not be read and written by the user who runs this; see its owner and permissions")
    if path.is_file() and path.stat().st_size == 0:
        raise ConfigError(
            f"{path}: is empty: its content is lost, or was never copied. Restore a backup, or delete the file to begin anew"
        )


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late and is deferred
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("chatwright_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
