"""Consistent copies of a database in use: SQLite's online backup, PostgreSQL's own tools."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from chatwright.errors import DataError, UsageError
from chatwright.workspace.database import Workspace

_PASSES = 5  # over a folder in which files come and go


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database to one file, while others write to it. Raises DataError for a damaged one."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE").close()  # one file
        if new.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise DataError(f"{source}: the database is damaged (PRAGMA integrity_check)")


def run_postgres_tool(tool: str, workspace: Workspace, args: list[str]) -> None:
    """Run `pg_dump` or `psql` on the workspace's database. Raises UsageError with the tool's last line."""
    url = workspace.engine.url
    # The password goes by the environment: arguments are visible to every process of the machine.
    env = {**os.environ, "PGPASSWORD": url.password or os.environ.get("PGPASSWORD", "")}
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    _run([tool, f"--dbname={plain}", *args], env)


def _run(argv: list[str], env: dict[str, str]) -> None:
    try:
        result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError(f"{argv[0]}: is not installed; it comes with PostgreSQL's client") from error
    if result.returncode:
        raise UsageError(f"{argv[0]}: {result.stderr.strip().splitlines()[-1] if result.stderr.strip() else 'failed'}")


def replace_postgres(workspace: Workspace, dump: Path, extra_tables: Iterable[str], scratch: Path) -> None:
    """Bring a dump back in one transaction; `extra_tables` are dropped first. Raises UsageError, and nothing has changed."""
    script = scratch / "restore.sql"
    drops = "".join(f'DROP TABLE IF EXISTS "{table}" CASCADE;\n' for table in extra_tables)
    _run(["pg_restore", "--clean", "--if-exists", "--no-owner", f"--file={script}", str(dump)], dict(os.environ))
    script.write_bytes(drops.encode() + script.read_bytes())
    how = ["--single-transaction", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    run_postgres_tool("psql", workspace, [*how, f"--file={script}"])
    script.unlink()


def copy_tree(source: Path, target: Path, *, left_out: Callable[[Path], bool]) -> list[str]:
    """Copy a folder that is in use into the new folder `target`. Returns remarks for the operator.

    Links are followed: a workspace often keeps its models on a larger disk. What vanishes meanwhile is looked for again
    under its new name, and left out when it is gone. Raises UsageError for a link to a folder that it lies in.
    """
    said: list[str] = []
    _copy_folder(source, target, left_out, (source.resolve(),), said)
    return said


def _copy_folder(
    source: Path, target: Path, left_out: Callable[[Path], bool], above: tuple[Path, ...], said: list[str]
) -> None:  # fmt: skip
    target.mkdir(mode=0o700)
    for _ in range(_PASSES):
        names = {path.name for path in source.iterdir() if not left_out(path)} - {path.name for path in target.iterdir()}
        copied = [_copy_one(source / name, target / name, left_out, above, said) for name in sorted(names)]
        if all(copied):
            return


def _copy_one(
    source: Path, target: Path, left_out: Callable[[Path], bool], above: tuple[Path, ...], said: list[str]
) -> bool:  # fmt: skip
    """False when `source` vanished."""
    if source.is_symlink():
        if not source.exists():
            said.append(f"{source}: is a link to {os.readlink(source)}, where nothing is; left out")
            return True
        if source.resolve() in above:
            raise UsageError(f"{source}: is a link to a folder that it lies in, so a copy has no end; remove the link")
        said.append(f"{source}: is a link; the copy holds what it leads to, {source.resolve()}")
    try:
        if source.is_dir():
            _copy_folder(source, target, left_out, (*above, source.resolve()), said)
        elif source.is_file():
            shutil.copy2(source, target)
        elif source.exists():
            said.append(f"{source}: is neither a file nor a folder; left out")
    except FileNotFoundError:
        if source.exists():
            raise
        shutil.rmtree(target, ignore_errors=True)  # no half of a folder that was deleted
        target.unlink(missing_ok=True)
        return False
    return True
