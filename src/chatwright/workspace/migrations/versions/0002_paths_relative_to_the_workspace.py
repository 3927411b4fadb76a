"""Paths relative to the workspace: a folder that is restored or moved elsewhere finds its models and exports.

Absolute paths in the workspace's folder become relative. So do paths in a folder where the workspace was before, where the
same model or export is here now: its manifest must have the hash that the row names. All others stay as they are.
"""
# ruff: noqa: D103

import hashlib
from pathlib import Path, PurePosixPath

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    folder = context.config.attributes.get("folder")
    if folder is None:  # a database without a folder: there is nothing to refer to
        return
    connection = op.get_bind()
    moved: dict[str, str] = {}
    for table, digest in (("feedback_exports", "id"), ("models", "manifest")):
        for identity, path, manifest in connection.execute(sa.text(f"SELECT id, path, {digest} FROM {table}")).all():
            moved[path] = _relative(Path(folder), path, manifest)
            change = sa.text(f"UPDATE {table} SET path = :path WHERE id = :id")
            connection.execute(change, {"path": moved[path], "id": identity})
    for identity, base in connection.execute(sa.text("SELECT id, base FROM models")).all():
        change = sa.text("UPDATE models SET base = :base WHERE id = :id")
        connection.execute(change, {"base": moved.get(base, base), "id": identity})
    _plans(connection, moved)


def _plans(connection: sa.Connection, moved: dict[str, str]) -> None:
    """What retrainings work on that were begun before."""
    effects = sa.table("job_effects", sa.column("job_id"), sa.column("name"), sa.column("data", sa.JSON))
    planned = sa.select(effects.c.job_id, effects.c.data).where(effects.c.name == "planned")
    for job, data in connection.execute(planned).all():
        data = {key: moved.get(value, value) if isinstance(value, str) else value for key, value in data.items()}
        change = effects.update().where(effects.c.job_id == job, effects.c.name == "planned").values(data=data)
        connection.execute(change)


def _relative(folder: Path, path: str, manifest: str) -> str:
    for base in (folder.absolute(), folder.resolve()):
        if Path(path).is_relative_to(base):
            return Path(path).relative_to(base).as_posix()
    parts = PurePosixPath(path).parts
    for n in range(1, len(parts)) if path.startswith("/") else ():
        here = PurePosixPath(*parts[n:])
        if _digest(folder / here / "MANIFEST.json") == manifest:
            return str(here)
    return path


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
