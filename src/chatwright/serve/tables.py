"""Every table module, so that `Base.metadata` is complete. Run as a module it writes the first revision anew."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile

from sqlalchemy import MetaData

from chatwright.workspace.database import Base, Workspace
from chatwright.workspace.migrations import write_initial

MODULES = (
    "chatwright.serve.auth_tables",
    "chatwright.serve.chat.tables",
    "chatwright.serve.arena.tables",
    "chatwright.serve.moderation.tables",
)


def present(module: str) -> bool:
    """Whether a module of ours is there."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is its package
        return False


def metadata() -> MetaData:
    """All tables of the server."""
    for module in filter(present, MODULES):
        importlib.import_module(module)
    return Base.metadata


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Workspace.open(folder) as workspace:
        write_initial(workspace, metadata())
