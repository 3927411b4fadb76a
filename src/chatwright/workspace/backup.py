"""Backups: a consistent copy of the database and the folder's files, with a manifest written last.

The database is copied first. Models and exports lie in folders that are written before their rows, so each row of the copy
finds its folder among the files that are copied after it. SQLite is copied by its online backup, PostgreSQL by `pg_dump`.
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
from chatwright.workspace.copies import copy_sqlite, copy_tree, run_postgres_tool
from chatwright.workspace.database import DATABASE_FILE, LOCK_FILE, RESTORING, Workspace
from chatwright.workspace.migrations import BACKUPS, current

MANIFEST = "MANIFEST.json"
DUMP_FILE = "postgresql.dump"
FILES = "files"
FORMAT = 1
DATABASE_FILES = (DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm")
CACHE = "cache"  # what a server measures again
WITHDRAWALS = "withdrawals.jsonl"  # the journal that outlives a restored database (feedback/withdrawals.py)
ASIDE = ".restore-"  # begins the names of folders in which a restore prepares


def back_up(workspace: Workspace, out: Path) -> list[str]:
    """Write a backup to the new folder `out`; returns remarks. UsageError when it exists, or cannot be written."""
    if out.exists():
        raise UsageError(f"{out}: exists already; a backup goes into a new folder")
    if out.resolve().is_relative_to(workspace.folder.resolve()):
        raise UsageError(f"{out}: is in the workspace; a backup goes into a folder outside of it")
    aside = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))  # 0700: a backup holds the secrets
        if workspace.is_sqlite:
            copy_sqlite(Path(workspace.engine.url.database or ""), aside / DATABASE_FILE)
        else:
            run_postgres_tool("pg_dump", workspace, ["--format=custom", f"--file={aside / DUMP_FILE}"])
        remarks = copy_tree(workspace.folder, aside / FILES, left_out=lambda path: _left_out(workspace, path))
        _write_manifest(workspace, aside)
        aside.rename(out)
        sync(out.parent)
    except BaseException as error:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            where = error.filename or out
            raise UsageError(f"{where}: {error.strerror or error}; no backup was written") from error
        raise
    return remarks


def _left_out(workspace: Workspace, path: Path) -> bool:
    ours = path.name in (LOCK_FILE, BACKUPS, CACHE, RESTORING, *DATABASE_FILES) or path.name.startswith(ASIDE)
    return ours and path.parent == workspace.folder


def _write_manifest(workspace: Workspace, aside: Path) -> None:
    manifest = {
        "format": FORMAT, "revision": current(workspace), "made_at": time.time(),
        "database": workspace.engine.dialect.name,
        "files": {str(p.relative_to(aside)): _digest(p) for p in sorted(aside.rglob("*")) if p.is_file()},
    }  # fmt: skip
    with (aside / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(folder: Path) -> None:
    """Write a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
