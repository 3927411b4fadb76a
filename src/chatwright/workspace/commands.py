"""`chatwright workspace backup | restore | upgrade`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chatwright.errors import UsageError
from chatwright.workspace import migrations
from chatwright.workspace.backup import WITHDRAWALS, back_up
from chatwright.workspace.database import Workspace, require_workspace
from chatwright.workspace.restore import bring_back


@dataclass(frozen=True, kw_only=True)
class BackupConfig:
    """A backup; the server may be running."""

    workspace: str = "workspace"
    """The workspace folder."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    out: str
    """New folder for the backup. It holds the workspace's secrets."""


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """A backup brought back; the server must not be running."""

    backup: str
    """The backup's folder, or the copy of a database that an upgrade has made."""
    workspace: str = "workspace"
    """Folder of the workspace: a new or empty one, unless --force is given."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    force: bool = False
    """Replace what is there. Its files, and a dump of a PostgreSQL database, are kept in the workspace's backups/."""


@dataclass(frozen=True, kw_only=True)
class UpgradeConfig:
    """The database brought to this version."""

    workspace: str = "workspace"
    """The workspace folder."""
    database: str = ""
    """Database URL; empty: CHATWRIGHT_DATABASE_URL, else SQLite in the workspace."""
    yes: bool = False
    """Do it; without this the plan is printed only."""
    backup: bool = True
    """Copy the database into the workspace's backups/ first."""


def _open(folder: str, database: str) -> Workspace:
    require_workspace(folder, _url(database))
    return Workspace.open(folder, _url(database))


def _url(database: str) -> str:
    return database or os.environ.get("CHATWRIGHT_DATABASE_URL", "")


def backup(cfg: BackupConfig) -> None:
    """Copy a workspace. Raises UsageError, DataError."""
    with _open(cfg.workspace, cfg.database) as workspace:
        if not migrations.current(workspace):
            raise UsageError(f"{cfg.workspace}: holds no database of a server; is this the workspace?")
        for remark in back_up(workspace, Path(cfg.out)):
            print(remark)
    print(f"backup written to {cfg.out}")


def restore(cfg: RestoreConfig) -> None:
    """Bring a backup back. Raises UsageError, DataError."""
    old = bring_back(Path(cfg.backup), Path(cfg.workspace), _url(cfg.database), force=cfg.force)
    print(f"{cfg.workspace}: restored from {cfg.backup}")
    if old is not None:
        print(f"what was there before is in {old}")
    if (Path(cfg.workspace) / WITHDRAWALS).is_file():
        print(f"the withdrawals in {WITHDRAWALS} are applied again at the next start")
    if old is None:
        print(
            f"withdrawals that are newer than the backup are in the old workspace's {WITHDRAWALS}: put that file into "
            f"{cfg.workspace} before the server starts"
        )


def upgrade(cfg: UpgradeConfig) -> None:
    """Print what is to be done, and do it with `yes`. Raises UsageError, DataError."""
    with _open(cfg.workspace, cfg.database) as workspace:
        steps, damaged = migrations.pending(workspace), migrations.deviations(workspace)
        for difference in damaged:
            print(f"to mend: {difference}")
        if damaged:
            print(f"the tables of revision {migrations.current(workspace)} are made anew, and every row is copied")
        for step in steps:
            print(step)
        if not steps and not damaged:
            print("the database is up to date")
        elif cfg.yes:
            workspace.lock()
            copy = migrations.upgrade(workspace, backup=cfg.backup)
            print("done" if copy is None else f"done; the database as it was: {copy}")
        else:
            print("to do this, add --yes; the database is copied into the workspace's backups/ first")
