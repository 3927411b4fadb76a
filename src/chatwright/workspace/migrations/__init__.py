"""Alembic's revisions of the database, and how to move between them. Alembic is imported only when there is something to
move: a server that starts on a database which is up to date does without it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, inspect, text

from chatwright.errors import UsageError
from chatwright.workspace.append_only import marked
from chatwright.workspace.database import Workspace

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.operations.ops import MigrationScript

_VERSIONS = Path(__file__).parent / "versions"


def _config(connection: Connection | None = None, metadata: MetaData | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, metadata=metadata)
    return config


def head() -> str:
    """The revision that this version of Chatwright works with: that of the last file, whose name begins with it."""
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


def current(workspace: Workspace) -> str:
    """The revision a database is at; "" for an empty one."""
    with workspace.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return connection.scalar(text("SELECT version_num FROM alembic_version")) or ""


def pending(workspace: Workspace) -> list[str]:
    """What `upgrade` would do, oldest first: `revision: title`. UsageError for a database of a newer version."""
    at = current(workspace)
    if at == head():
        return []
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    if at and at not in {revision.revision for revision in scripts.walk_revisions()}:
        raise UsageError(
            f"the database is at revision {at}, which this version of Chatwright does not know: it is newer. "
            "Install the version that wrote it, or restore an older backup."
        )
    found = []
    for revision in scripts.walk_revisions():
        if revision.revision == at:
            break
        found.append(f"{revision.revision}: {revision.doc}")
    return found[::-1]


def upgrade(workspace: Workspace) -> None:
    """Bring a database to `head`, all or nothing."""
    from alembic import command

    pending(workspace)
    with workspace.engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def prepare(workspace: Workspace) -> None:
    """Make the tables of an empty database. UsageError when an older or newer version wrote it."""
    steps = pending(workspace)
    if steps and current(workspace):
        raise UsageError(
            f"{workspace.folder}: the database is of an older version ({len(steps)} steps behind). "
            "Make a backup and run: chatwright workspace upgrade"
        )
    if steps:
        upgrade(workspace)


def differences(workspace: Workspace, metadata: MetaData) -> list[object]:
    """How the tables differ from what the code declares; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with workspace.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def write_initial(workspace: Workspace, metadata: MetaData) -> None:
    """Write the first revision anew from `metadata` (nothing is released yet); `workspace` must be empty."""
    from alembic import command

    from chatwright.workspace.migrations.operations import AppendOnly

    for old in _VERSIONS.glob("*.py"):
        old.unlink()

    def guard(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
        for name in marked(metadata):
            scripts[0].upgrade_ops_list[0].ops.append(AppendOnly(name))
            scripts[0].downgrade_ops_list[0].ops.insert(0, AppendOnly(name, lift=True))

    with workspace.engine.begin() as connection:
        command.revision(
            _config(connection, metadata), "initial tables", autogenerate=True, rev_id="0001",
            process_revision_directives=guard,
        )  # fmt: skip
