"""Rebuilds tables that differ from their revision, since revision 0001 was rewritten until 2026-11-30: the revision's tables
are made anew and every row is copied. What cannot be copied without loss is refused."""

from __future__ import annotations

import re

from sqlalchemy import Connection, MetaData, text

from chatwright.errors import UsageError
from chatwright.workspace.migrations import alembic_config, schema

# Values of columns that development versions of revision 0001 lacked.
_ABSENT: dict[tuple[str, str], object] = {("api_keys", "training_consent"): False}
# Tables that they lacked: the last group, the last two, or all.
_LATER = (
    {"feedback_exports", "feedback_export_items", "identities", "job_effects", "jobs", "model_exports", "models", "serving"},
    {
        "feedback_drafts", "feedback_guidelines", "feedback_labellers", "feedback_labels", "feedback_leases",
        "feedback_merged", "feedback_projects", "feedback_skips", "feedback_tasks", "label_events", "payloads",
    },
    {"intake_candidates", "intake_counts", "intake_seen"},
)  # fmt: skip
_OLD = "chatwright_old"
_COLUMN = re.compile(r"column (\S+) \S+(?: PRECISION)?( NOT NULL)?$")


def rebuild(connection: Connection, revision: str) -> None:
    """Bring the tables to those of `revision`, in the caller's transaction. Raises UsageError for rows that do not fit."""
    from alembic import command

    before, after = schema.describe(connection), schema.expected(revision)
    _refuse_lost_tables(after.keys() - before.keys())
    copies = {table: _copied(connection, table, before[table], lines) for table, lines in after.items() if table in before}
    counts = {table: _count(connection, table) for table in copies}
    _set_aside(connection, list(copies))
    command.upgrade(alembic_config(connection), revision)
    made = MetaData()
    made.reflect(connection, only=list(copies))
    for table in (one.name for one in made.sorted_tables):  # those that others refer to come first
        values = copies[table]
        names, sources = ", ".join(map(_quoted, values)), ", ".join(values.values())
        connection.execute(text(f"INSERT INTO {_quoted(table)} ({names}) SELECT {sources} FROM {_old(connection, table)}"))
        if _count(connection, table) != counts[table]:
            raise UsageError(f"table {table}: not every row could be copied; nothing was changed")
    _drop_old(connection, list(copies))
    _set_sequences(connection, after)


def _refuse_lost_tables(missing: set[str]) -> None:
    """An empty table must not take the place of a lost one."""
    if missing and missing not in [set().union(*_LATER[n:]) for n in range(len(_LATER))]:
        lost = missing - set().union(*_LATER) or missing
        raise UsageError(
            f"tables are missing that the version which made this database had: {', '.join(sorted(lost))}. "
            "Their rows are lost here: a restore or a copy was interrupted. Restore a backup into a new place"
        )


def _columns(lines: list[str]) -> dict[str, bool]:
    """Column -> whether it must have a value."""
    return {found[1]: bool(found[2]) for line in lines if (found := _COLUMN.match(line))}


def _copied(connection: Connection, table: str, before: list[str], after: list[str]) -> dict[str, str]:
    """Column -> SQL of its value in the old table."""
    old, new = _columns(before), _columns(after)
    for name in old.keys() - new.keys():
        if connection.scalar(text(f"SELECT COUNT(*) FROM {_quoted(table)} WHERE {_quoted(name)} IS NOT NULL")):
            raise UsageError(
                f"table {table}: column {name} holds values and this version has no such column, so they would be lost. "
                "Use the version that made this workspace (`chatwright feedback export` there keeps its labels)"
            )
    values = {name: _quoted(name) for name in new if name in old}
    for name, needed in new.items():
        if name in old or not needed:
            continue
        if (table, name) in _ABSENT:
            values[name] = str(_ABSENT[table, name]).lower()
        elif _count(connection, table):
            raise UsageError(
                f"table {table}: has rows but lacks column {name}, whose value nobody can know. "
                "Use the version that made this workspace (`chatwright feedback export` there keeps its labels)"
            )
    return values


def _set_aside(connection: Connection, tables: list[str]) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text(f"CREATE SCHEMA {_OLD}"))
        for table in [*tables, "alembic_version"]:
            connection.execute(text(f"ALTER TABLE {_quoted(table)} SET SCHEMA {_OLD}"))
        for table in tables:  # the function of its triggers; the table is dropped soon
            connection.execute(text(f"DROP FUNCTION IF EXISTS {table}_refuse() CASCADE"))
        return
    objects = "SELECT type, name, tbl_name FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    for kind, name, table in connection.execute(text(objects)).all():
        if table in tables:
            connection.execute(text(f"DROP {kind} {_quoted(name)}"))
    for table in tables:
        connection.execute(text(f"ALTER TABLE {_quoted(table)} RENAME TO {_old(connection, table)}"))
    connection.execute(text("DROP TABLE alembic_version"))


def _drop_old(connection: Connection, tables: list[str]) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text(f"DROP SCHEMA {_OLD} CASCADE"))
        return
    for table in tables:
        connection.execute(text(f"DROP TABLE {_old(connection, table)}"))


def _set_sequences(connection: Connection, after: schema.Description) -> None:
    """On PostgreSQL, numbers go on after the highest that was copied."""
    if connection.dialect.name == "sqlite":
        return
    for table, lines in after.items():
        for name in _columns(lines):
            if sequence := connection.scalar(text(f"SELECT pg_get_serial_sequence('{_quoted(table)}', '{name}')")):
                last = f"SELECT MAX({_quoted(name)}) FROM {_quoted(table)}"
                connection.execute(text(f"SELECT setval('{sequence}', COALESCE(({last}), 1), ({last}) IS NOT NULL)"))


def _count(connection: Connection, table: str) -> int:
    return int(connection.scalar(text(f"SELECT COUNT(*) FROM {_quoted(table)}")) or 0)


def _old(connection: Connection, table: str) -> str:
    return _quoted(f"{_OLD}_{table}") if connection.dialect.name == "sqlite" else f"{_OLD}.{_quoted(table)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
