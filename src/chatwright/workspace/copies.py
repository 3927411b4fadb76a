"""Consistent copies of a database in use: SQLite's online backup, PostgreSQL's `pg_dump` and `pg_restore`."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from chatwright.errors import DataError, UsageError
from chatwright.workspace.database import Workspace


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database to one file, while others write to it. Raises DataError for a damaged one."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE").close()  # one file
        if new.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise DataError(f"{source}: the database is damaged (PRAGMA integrity_check)")


def run_postgres_tool(tool: str, workspace: Workspace, args: list[str]) -> None:
    """Run `pg_dump` or `pg_restore` on the workspace's database. Raises UsageError with the tool's last line."""
    url = workspace.engine.url
    # The password goes by the environment: arguments are visible to every process of the machine.
    env = {**os.environ, "PGPASSWORD": url.password or os.environ.get("PGPASSWORD", "")}
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    try:
        result = subprocess.run([tool, f"--dbname={plain}", *args], env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError(f"{tool}: is not installed; it comes with PostgreSQL's client") from error
    if result.returncode:
        raise UsageError(f"{tool}: {result.stderr.strip().splitlines()[-1] if result.stderr.strip() else 'failed'}")
