"""Every table module, so that `Base.metadata` is complete. Run as a module it adds a revision (`make migration`)."""

from __future__ import annotations

import importlib
import sys

from sqlalchemy import MetaData

from chatwright.workspace.database import Base

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
    from chatwright.workspace.migrations.authoring import add_revision

    for path in add_revision(metadata(), " ".join(sys.argv[1:])):
        print(f"{path}: written; review it")
