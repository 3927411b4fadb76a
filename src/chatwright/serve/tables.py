"""Every table module, so that `Base.metadata` is complete. Run as a module it writes the first revision anew."""

from __future__ import annotations

import importlib
import tempfile

from sqlalchemy import MetaData

from chatwright.workspace.database import Base, Workspace
from chatwright.workspace.migrations import write_initial

MODULES = (
    "chatwright.serve.auth_tables",
    "chatwright.serve.chat.tables",
    "chatwright.serve.arena.tables",
    "chatwright.serve.moderation.tables",
    "chatwright.feedback.tables",
    "chatwright.feedback.jobs_tables",
    "chatwright.feedback.intake_tables",
)


def metadata() -> MetaData:
    """All tables of the server."""
    for module in MODULES:
        importlib.import_module(module)
    return Base.metadata


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Workspace.open(folder) as workspace:
        write_initial(workspace, metadata())
