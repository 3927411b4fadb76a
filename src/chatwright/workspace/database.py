"""One database for everything people make: SQLite in the workspace folder by default, PostgreSQL by URL.

On SQLite a write is durable when its session has ended (WAL, `synchronous=FULL`), and sessions that write take the lock
at their start (`BEGIN IMMEDIATE`): two writers wait for one another instead of failing half-way.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, String, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapper, Session
from sqlalchemy.pool import ConnectionPoolEntry

from chatwright.errors import ConfigError, DataError, UsageError

BUSY_TIMEOUT_MS = 30_000
"""For another process to end its transaction. SQLite asks again at intervals and serves no queue."""
_TURN = "chatwright_turn"  # in a connection's info: it holds the process's turn to write
DATABASE_FILE = "chatwright.sqlite3"
LOCK_FILE = "serve.lock"
RESTORING = "RESTORE-INTERRUPTED"
"""A file that is there while a restore exchanges files: what lies beside it may be half of a workspace."""
_SERVER_LOCK = 0x63687773  # key of PostgreSQL's advisory lock; such locks are local to a database
_LOCK_HOLDER = (
    "SELECT a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objid = :key AND a.datname = current_database()"
)


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


@event.listens_for(Base, "before_insert", propagate=True)
@event.listens_for(Base, "before_update", propagate=True)
def _check_texts(mapper: Mapper[Any], connection: Connection, row: Any) -> None:
    """DataError for a text that a column does not hold: PostgreSQL would fail with its own error, SQLite would keep it."""
    for name, length in _text_columns(mapper):
        value = getattr(row, name)
        if not isinstance(value, str):
            continue
        if length is not None and len(value) > length:
            raise DataError(f"{name}: has {len(value):,} characters, at most {length} are kept: {value[:40]!r}...")
        if "\x00" in value:
            raise DataError(f"{name}: holds a NUL character, which no database keeps")


@cache
def _text_columns(mapper: Mapper[Any]) -> list[tuple[str, int | None]]:
    """(attribute, most characters or None) of the columns that hold text."""
    found = ((attribute.key, attribute.columns[0].type) for attribute in mapper.column_attrs)
    return [(name, kind.length) for name, kind in found if isinstance(kind, String)]


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
        self._folder_lock: int | None = None
        self._database_lock: Connection | None = None

    @classmethod
    def open(cls, folder: str | Path, url: str = "") -> Workspace:
        """Open, or begin, a workspace; `url` names a database elsewhere. Raises ConfigError when it cannot be reached."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"workspace {folder}: this folder cannot be made ({error.strerror})") from error
        _refuse_unusable(folder, (DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm") if not url else ())
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
            event.listen(engine, "handle_error", _name_unusable_text)
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
        """Keep other servers out of this folder and this database until `close`. Raises UsageError when one is running."""
        self._folder_lock = lock_folder(self.folder)
        self.lock_database()

    def lock_database(self) -> None:
        """On PostgreSQL, keep servers of other folders and machines out. Raises UsageError when one is running."""
        if self.is_sqlite:
            return
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # the lock lives as long as this connection, so the pool must not have it back
        if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _SERVER_LOCK}):
            self._database_lock = connection
            return
        holder = connection.execute(text(_LOCK_HOLDER), {"key": _SERVER_LOCK}).first()
        connection.close()
        where = f", connected from {holder.client_addr or 'this machine'}" if holder else ""
        raise UsageError(
            f"{self.engine.url.render_as_string()}: a server is already running on this database{where}; stop it, or use "
            "another --database"
        )

    def close(self) -> None:
        """Close every connection and give the locks back."""
        if self._database_lock is not None:
            self._database_lock.close()
            self._database_lock = None
        self.engine.dispose()
        if self._folder_lock is not None:
            os.close(self._folder_lock)
            self._folder_lock = None

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def lock_folder(folder: Path) -> int:
    """A descriptor that keeps other servers out of a folder until it is closed. Raises UsageError when one is running."""
    path = folder / LOCK_FILE
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
            f"{folder}: a server (process {owner or 'unknown'}) is already running in this workspace; "
            "stop it, or start this one with another --workspace"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _refuse_unusable(folder: Path, files: Sequence[str]) -> None:
    """Say what is wrong with a folder, and the files of a database in it, before SQLite fails half-way."""
    for one in (folder, *(folder / name for name in files)):
        needed = os.R_OK | os.W_OK | (os.X_OK if one.is_dir() else 0)
        allowed = os.access(one, needed, effective_ids=os.access in os.supports_effective_ids)
        if not allowed and one.exists():
            raise ConfigError(f"{one}: may not be read and written by the user who runs this; see its owner and permissions")
    if (folder / RESTORING).exists():
        raise UsageError(
            f"{folder}: a restore into it was interrupted. Run it again with --force; what was there before is in "
            f"{folder / 'backups'}"
        )
    path = folder / DATABASE_FILE
    if files and path.is_file() and path.stat().st_size == 0:
        raise ConfigError(
            f"{path}: is empty: its content is lost, or was never copied. Restore a backup, or delete the file to begin anew"
        )


def _name_unusable_text(context: ExceptionContext) -> None:
    """DataError for parameters of a query that no text can be: they come from requests and files."""
    error = context.original_exception
    if isinstance(error, UnicodeEncodeError):
        raise DataError("a text holds half of a surrogate pair, which is no character") from error
    if type(error).__name__ == "DataError" and "NUL" in str(error):
        raise DataError("a text holds a NUL character, which no database keeps") from error
    if getattr(error, "sqlstate", None) == "22001":
        raise DataError("a text is too long for its column") from error


def require_workspace(folder: str | Path, url: str = "", remedy: str = "") -> None:
    """UsageError when a folder is no workspace, so that no command begins one in a folder that was named by mistake.

    `url`: the database elsewhere, if there is one; `remedy`: what to do, for the end of the message.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"{folder}: there is no such workspace{remedy}")
    if not url and not (place / DATABASE_FILE).is_file():
        raise UsageError(f"{folder}: is no workspace (there is no {DATABASE_FILE} in it){remedy}")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late and is deferred
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}").close()

    # Threads of one process queue here: SQLite's own waiting lets a thread starve while others write one after another.
    turn = threading.Lock()

    def end_turn(info: dict[Any, Any]) -> None:
        if info.pop(_TURN, False):
            turn.release()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("chatwright_reading"):
            connection.exec_driver_sql("BEGIN")
            return
        connection.info[_TURN] = turn.acquire(timeout=BUSY_TIMEOUT_MS / 1000)
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # without a turn too: SQLite then says why it fails
        except BaseException:
            end_turn(connection.info)
            raise

    @event.listens_for(engine, "commit")
    @event.listens_for(engine, "rollback")
    def on_end(connection: Connection) -> None:
        end_turn(connection.info)

    @event.listens_for(engine, "checkin")
    def on_return(connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        end_turn(record.info)
