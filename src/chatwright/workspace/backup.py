"""Backups: the folder's files and a consistent copy of the database, with a manifest written last.

SQLite is copied by its online backup, so that a server may go on writing; PostgreSQL by its own `pg_dump` and `pg_restore`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from chatwright.errors import DataError, UsageError
from chatwright.workspace.copies import copy_sqlite, run_postgres_tool
from chatwright.workspace.database import DATABASE_FILE, Workspace
from chatwright.workspace.migrations import BACKUPS, current, pending
from chatwright.workspace.migrations.schema import revisions

MANIFEST = "MANIFEST.json"
DUMP_FILE = "postgresql.dump"
FORMAT = 1
_LEFT_OUT = {"serve.lock", BACKUPS, DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm"}


def back_up(workspace: Workspace, out: Path) -> None:
    """Write a backup to the new folder `out`. UsageError when it exists."""
    if out.exists():
        raise UsageError(f"{out}: exists already; a backup goes into a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))  # 0700: a backup holds the secrets
    try:
        files = aside / "files"
        shutil.copytree(
            workspace.folder, files, symlinks=True, ignore=lambda folder, names: [
                n for n in names if (n in _LEFT_OUT and Path(folder) == workspace.folder) or (Path(folder) / n).is_symlink()
            ],
        )  # fmt: skip
        if workspace.is_sqlite:
            copy_sqlite(Path(workspace.engine.url.database or ""), aside / DATABASE_FILE)
        else:
            run_postgres_tool("pg_dump", workspace, ["--format=custom", f"--file={aside / DUMP_FILE}"])
        manifest = {
            "format": FORMAT, "revision": current(workspace), "made_at": time.time(),
            "database": workspace.engine.dialect.name,
            "files": {str(p.relative_to(aside)): _digest(p) for p in sorted(aside.rglob("*")) if p.is_file()},
        }  # fmt: skip
        with (aside / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(out)
        _sync(out.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def verify(backup: Path) -> dict[str, str]:
    """What kind of backup it is: `revision`, `database`. DataError for a damaged one, UsageError for a newer format."""
    path = backup / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        listed = dict(manifest["files"])
        kind = {name: str(manifest[name]) for name in ("revision", "database")}
        number = int(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is missing or damaged; this is not a complete backup") from error
    if number > FORMAT:
        raise UsageError(f"{path}: was made by a newer version of Chatwright; install that one")
    found = {str(p.relative_to(backup)) for p in backup.rglob("*") if p.is_file() and p != path}
    for name in sorted(found ^ set(listed)):
        raise DataError(f"{backup / name}: {'is missing' if name in listed else 'does not belong to the backup'}")
    for name, digest in listed.items():
        if (backup / name).is_symlink() or _digest(backup / name) != digest:
            raise DataError(f"{backup / name}: is damaged: its hash is not the one in {MANIFEST}")
    return kind


def bring_back(backup: Path, folder: Path, url: str, *, force: bool) -> None:
    """Make `folder` (and the database at `url`) what they were. UsageError for places in use, unless `force`."""
    kind = verify(backup)
    if (kind["database"] == "sqlite") == bool(url) and not url.startswith("sqlite"):
        raise UsageError(f"{backup}: holds a {kind['database']} database; give a --database of that kind (none for SQLite)")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise UsageError(f"{folder}: is not empty; restore into a new folder, or overwrite it with --force")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shutil.copytree(backup / "files", aside, dirs_exist_ok=True)
        aside.chmod(0o700)
        if kind["database"] == "sqlite":
            shutil.copyfile(backup / DATABASE_FILE, aside / DATABASE_FILE)
        with Workspace.open(aside, url) as workspace:
            _check_revision(kind["revision"], workspace)
            if not workspace.is_sqlite:
                if current(workspace) and not force:
                    raise UsageError("the database is not empty; restore into a new one, or overwrite it with --force")
                how = ["--clean", "--if-exists", "--no-owner", "--single-transaction"]
                run_postgres_tool("pg_restore", workspace, [*how, str(backup / DUMP_FILE)])
        if folder.exists():
            with Workspace.open(folder) if kind["database"] == "sqlite" else Workspace.open(folder, url) as old:
                old.lock()  # never under a running server
            folder.rename(replaced := folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"))
            print(f"what was in {folder} is now in {replaced}")
        aside.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _check_revision(revision: str, workspace: Workspace) -> None:
    """Refuse what only a newer version can read, before anything is replaced."""
    if workspace.is_sqlite:
        pending(workspace)
    elif revision not in revisions():
        raise UsageError(f"the backup is at revision {revision}, which this version does not know: it is newer")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
