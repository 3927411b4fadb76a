"""New revisions, for developers: `make migration NAME="what it changes"`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import MetaData

from chatwright.errors import UsageError
from chatwright.workspace.append_only import marked
from chatwright.workspace.database import Workspace
from chatwright.workspace.migrations import alembic_config, prepare, schema

if TYPE_CHECKING:
    from alembic.operations.ops import MigrationScript


def add_revision(metadata: MetaData, title: str) -> list[Path]:
    """Write the next revision: what leads from the last one to `metadata`, for review, and the description it must end at.

    Returns the new files. Revisions that are there stay as they are: workspaces have been made by them.
    """
    from alembic import command

    from chatwright.workspace.migrations.operations import AppendOnly

    slug = re.sub(r"\W+", "_", title.lower()).strip("_")
    if not slug:
        raise UsageError('a revision needs a title: make migration NAME="what it changes"')
    known = schema.revisions()
    revision = f"{int(known[-1]) + 1:04d}"
    guarded = {table for table, lines in schema.expected(known[-1]).items() if schema.APPEND_ONLY in lines}

    def guard(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
        for name in sorted(set(marked(metadata)) - guarded):
            scripts[0].upgrade_ops_list[0].ops.append(AppendOnly(name))

    with tempfile.TemporaryDirectory() as folder, Workspace.open(folder) as workspace:
        prepare(workspace)
        with workspace.engine.begin() as connection:
            command.revision(
                alembic_config(connection, metadata), title, autogenerate=True, rev_id=revision,
                process_revision_directives=guard,
            )  # fmt: skip
    schema.write(revision, metadata)
    return sorted(schema.VERSIONS.glob(f"{revision}[_.]*"))


def differences(workspace: Workspace, metadata: MetaData) -> list[object]:
    """How the tables differ from what the code declares, by Alembic's comparison; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    options = {"compare_type": True, "include_object": schema.is_compared}
    with workspace.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
