"""Restores a backup. Nothing is overwritten before the locks are held, and what was there is kept in `backups/`.

    1 lock       the folder, and the database on PostgreSQL
    2 prepare    copy the backup into a folder inside the workspace, so that step 5 is renames only
    3 mark       write RESTORE-INTERRUPTED; no command opens the workspace while it is there
    4 database   PostgreSQL: dump the old database into backups/, then replace it in one transaction
    5 exchange   move the old files into backups/, the new ones into their places; remove the mark

The journal of withdrawals stays, with the backup's lines added: the next start erases again what the backup brings back.

After a kill in step 3 to 5 the workspace is refused until the restore is run again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatwright.errors import DataError, UsageError
from chatwright.workspace.backup import ASIDE, DATABASE_FILES, DUMP_FILE, FILES, WITHDRAWALS, sync, verify
from chatwright.workspace.copies import copy_sqlite, replace_postgres, run_postgres_tool
from chatwright.workspace.database import DATABASE_FILE, LOCK_FILE, RESTORING, Workspace, lock_folder
from chatwright.workspace.migrations import BACKUPS, current, pending, schema

_COPIES = {".sqlite3": "sqlite", ".postgresql": "postgresql"}
_STAY = {LOCK_FILE, BACKUPS, RESTORING, WITHDRAWALS}


def bring_back(backup: Path, folder: Path, url: str, *, force: bool) -> Path | None:
    """Make `folder` (and the database at `url`) what they were. Returns where the folder's old content is, if it had any.

    `backup` is a backup's folder, or the copy of a database that an upgrade has made: then only the database is replaced.
    Raises UsageError for places in use and, unless `force`, for those with content; DataError for a damaged backup.
    """
    kind = _kind(backup)
    if (kind["database"] == "sqlite") == bool(url) and not url.startswith("sqlite"):
        raise UsageError(f"{backup}: holds a {kind['database']} database; give a --database of that kind (none for SQLite)")
    with _locked(folder):
        content = [path for path in folder.iterdir() if path.name not in _STAY and not path.name.startswith(ASIDE)]
        if content and not force:
            raise UsageError(f"{folder}: is not empty; restore into a new folder, or overwrite it with --force")
        for left in folder.glob(f"{ASIDE}*"):  # of a restore that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder))
        try:
            old = folder / BACKUPS / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}-{aside.name[-4:]}"
            _replace(backup, folder, aside, url, kind, old, force=force)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return old if old.exists() else None


def _kind(backup: Path) -> dict[str, str]:
    """`revision` and `database`; a copy that an upgrade has made is known by its suffix."""
    if backup.is_dir():
        return verify(backup)
    if backup.is_file() and backup.suffix in _COPIES:
        return {"database": _COPIES[backup.suffix], "revision": ""}
    raise UsageError(f"{backup}: is neither the folder of a backup nor a copy that an upgrade has made")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = lock_folder(folder)
    try:
        yield
    except BaseException:
        if made and not (folder / RESTORING).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def _replace(
    backup: Path, folder: Path, aside: Path, url: str, kind: dict[str, str], old: Path, *, force: bool
) -> None:  # fmt: skip
    whole = backup.is_dir()
    new = aside / FILES
    shutil.copytree(backup / FILES, new) if whole else new.mkdir()
    if kind["database"] == "sqlite":
        copy_sqlite(backup / DATABASE_FILE if whole else backup, new / DATABASE_FILE)
    with Workspace.open(new, url) as workspace:
        if workspace.is_sqlite:
            if not current(workspace):
                raise DataError(f"{backup}: holds no database of a server")
            pending(workspace)  # refuses one of a newer version
        else:
            _replace_postgres(workspace, backup / DUMP_FILE if whole else backup, folder, kind["revision"], old, force=force)
    _keep_withdrawals(folder, new)
    _mark(folder)
    _exchange(folder, new, old, None if whole else DATABASE_FILES)
    (folder / RESTORING).unlink()
    sync(folder)


def _replace_postgres(workspace: Workspace, dump: Path, folder: Path, revision: str, old: Path, *, force: bool) -> None:
    if revision and revision not in schema.revisions():
        raise UsageError(f"the backup is at revision {revision}, which this version does not know: it is newer")
    workspace.lock_database()
    occupied = current(workspace)
    if occupied and not force and not (folder / RESTORING).exists():
        raise UsageError("the database is not empty; restore into a new one, or overwrite it with --force")
    if occupied:
        old.mkdir(parents=True, mode=0o700)
        run_postgres_tool("pg_dump", workspace, ["--format=custom", f"--file={old / 'database.postgresql'}"])
    was_marked = (folder / RESTORING).exists()
    _mark(folder)
    try:
        replace_postgres(workspace, dump, schema.expected(schema.revisions()[-1]), workspace.folder.parent)
    except UsageError:  # nothing has changed
        if not was_marked:
            (folder / RESTORING).unlink()
        raise


def _keep_withdrawals(folder: Path, new: Path) -> None:
    """Let the folder's journal of withdrawals hold its own lines and those of the backup. An older database brings erased
    texts back; the next start erases them again by this journal."""
    brought = new / WITHDRAWALS
    lines: dict[bytes, None] = {}
    for path in (brought, folder / WITHDRAWALS):
        if path.is_file():
            lines |= dict.fromkeys(line for line in path.read_bytes().split(b"\n") if line.strip())
    brought.unlink(missing_ok=True)
    if lines:
        aside = folder / f"{ASIDE}{WITHDRAWALS}"
        aside.write_bytes(b"".join(line + b"\n" for line in lines))
        aside.chmod(0o600)
        aside.replace(folder / WITHDRAWALS)
        sync(folder)


def _mark(folder: Path) -> None:
    (folder / RESTORING).write_text("A restore is running, or was killed: run it again with --force.\n", encoding="utf-8")
    sync(folder)


def _exchange(folder: Path, new: Path, old: Path, only: tuple[str, ...] | None) -> None:
    """Move what `folder` holds (with `only`: files of these names) into `old`, and what `new` holds into `folder`."""
    for path in sorted(folder.iterdir()):
        if path.name in _STAY or path.name.startswith(ASIDE) or (only is not None and path.name not in only):
            continue
        old.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.rename(old / path.name)
    for path in sorted(new.iterdir()):
        path.rename(folder / path.name)
    sync(folder)
