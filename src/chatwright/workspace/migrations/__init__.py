"""Alembic's revisions of the database, and how to move between them. Alembic is imported only when there is something to
move: a server that starts on a database which is up to date does without it.

An upgrade is one transaction. It keeps every row: foreign keys are off while SQLite copies tables (a DROP would follow ON
DELETE CASCADE) and checked before COMMIT, append-only triggers are made again, and the result must equal the description.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, inspect, text

from chatwright.errors import DataError, UsageError
from chatwright.workspace.append_only import statements
from chatwright.workspace.copies import copy_sqlite, run_postgres_tool
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import schema
from chatwright.workspace.text_search import ensure_index

if TYPE_CHECKING:
    from alembic.config import Config

_UPGRADE_LOCK = 0x63686174  # key of PostgreSQL's advisory lock: two upgrades at once wait for one another
BACKUPS = "backups"


def alembic_config(
    connection: Connection | None = None, metadata: MetaData | None = None, *, folder: Path | None = None
) -> Config:  # fmt: skip
    """Alembic's settings for `env.py`; `folder` is the workspace's, for revisions that look into it."""
    from alembic.config import Config

    config = Config()
    for option, path in (("script_location", Path(__file__).parent), ("version_locations", schema.VERSIONS)):
        config.set_main_option(option, str(path).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, metadata=metadata, folder=folder)
    return config


def head() -> str:
    """The revision that this version of Chatwright works with."""
    return schema.revisions()[-1]


def current(workspace: Workspace) -> str:
    """The revision a database is at; "" for an empty one. Raises DataError when its tables have no revision."""
    with workspace.engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str:
    tables = set(inspect(connection).get_table_names())
    found = connection.execute(text("SELECT version_num FROM alembic_version")).all() if "alembic_version" in tables else []
    if len(found) == 1:
        return str(found[0][0])
    if found or "alembic_version" in tables or (ours := sorted(tables & schema.expected(head()).keys())):
        why = f"{len(found)} revisions" if "alembic_version" in tables else f"tables ({', '.join(ours[:3])}) but no revision"
        raise DataError(f"the database has {why}: a restore or a copy was interrupted. Restore a backup into a new place")
    return ""


def pending(workspace: Workspace) -> list[str]:
    """Titles of the revisions that `upgrade` would apply, the oldest first. UsageError for a database of a newer version."""
    at, known = current(workspace), schema.revisions()
    if at and at not in known:
        raise UsageError(
            f"the database is at revision {at}, which this version of Chatwright does not know: it is newer. "
            "Install the version that wrote it, or restore an older backup."
        )
    steps = known[known.index(at) + 1 :] if at else known
    return [f"{step}: {_title(step)}" for step in steps]


def _title(revision: str) -> str:
    (path,) = schema.VERSIONS.glob(f"{revision}_*.py")
    return path.stem.partition("_")[2].replace("_", " ")


def deviations(workspace: Workspace) -> list[str]:
    """How the tables differ from those of the database's own revision, a sentence per table; empty for an empty database."""
    with workspace.engine.connect() as connection:
        at = _revision(connection)
        return schema.deviations(schema.describe(connection), schema.expected(at)) if at else []


def prepare(workspace: Workspace) -> None:
    """Make the tables of an empty database. Raises UsageError, DataError when another version wrote it."""
    steps = pending(workspace)
    if not current(workspace):
        upgrade(workspace, backup=False)
        return
    found = deviations(workspace)
    if found:
        raise UsageError(
            f"{workspace.folder}: the database says revision {current(workspace)}, but its tables differ: "
            f"{'. '.join(found)}. A development version made it, or a restore was interrupted. "
            "`chatwright workspace upgrade` mends the former without losing a row; for the latter restore a backup"
        )
    if steps:
        raise UsageError(
            f"{workspace.folder}: the database is of an older version ({len(steps)} steps behind). "
            "Run: chatwright workspace upgrade (it makes a backup first)"
        )
    with workspace.engine.begin() as connection:
        ensure_index(connection)


def upgrade(workspace: Workspace, *, backup: bool = True) -> Path | None:
    """Bring a database to `head`, all or nothing. Returns where its copy is, None without one.

    Raises UsageError when there can be no backup, or the tables are not what a revision left behind and cannot be mended.
    """
    from alembic import command

    steps, damaged = pending(workspace), deviations(workspace)
    if not steps and not damaged:
        return None
    copy = _back_up(workspace) if backup and current(workspace) else None
    with _exclusive(workspace) as connection:
        at = _revision(connection)
        if at and schema.deviations(schema.describe(connection), schema.expected(at)):
            from chatwright.workspace.migrations.rebuild import rebuild

            rebuild(connection, at)
        command.upgrade(alembic_config(connection, folder=workspace.folder), "head")
        _guard(connection)
        _check(connection)
        ensure_index(connection)
    return copy


def _back_up(workspace: Workspace) -> Path:
    """Copy the database into the workspace's `backups/`."""
    folder = workspace.folder / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"before-{head()}-{time.strftime('%Y%m%d-%H%M%S')}"
    if workspace.is_sqlite:
        path = folder / f"{name}.sqlite3"
        copy_sqlite(Path(workspace.engine.url.database or ""), path)
    else:
        path = folder / f"{name}.postgresql"
        try:
            run_postgres_tool("pg_dump", workspace, ["--format=custom", f"--file={path}"])
        except UsageError as error:
            path.unlink(missing_ok=True)
            raise UsageError(f"no backup was made, so nothing was changed: {error}. To do without: --no-backup") from error
    path.chmod(0o600)
    return path


@contextmanager
def _exclusive(workspace: Workspace) -> Iterator[Connection]:
    """A transaction in which tables may be copied: no foreign keys on SQLite, one upgrade at a time on PostgreSQL."""
    with workspace.engine.connect() as connection:
        raw = connection.connection.driver_connection if workspace.is_sqlite else None
        if raw is not None:
            raw.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
        try:
            with connection.begin():
                if raw is None:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
                yield connection
        finally:
            if raw is not None:
                raw.execute("PRAGMA foreign_keys=ON")


def _guard(connection: Connection) -> None:
    """Make append-only triggers again that went with a copied table."""
    found = schema.describe(connection)
    for table, lines in schema.expected(head()).items():
        if schema.APPEND_ONLY in lines and schema.APPEND_ONLY not in found.get(table, []):
            for statement in statements(connection.dialect.name, table):
                connection.exec_driver_sql(statement)


def _check(connection: Connection) -> None:
    """Refuse to commit what breaks a foreign key, or differs from the description of `head`."""
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            tables = ", ".join(sorted({f"{row[0]} -> {row[2]}" for row in broken}))
            raise DataError(f"the upgrade would leave {len(broken)} broken foreign keys ({tables}); nothing changed")
    found = schema.deviations(schema.describe(connection), schema.expected(head()))
    if found:
        raise DataError(f"the upgrade would leave other tables than it should: {'. '.join(found)}; nothing changed")
