"""Descriptions of a database's tables, for comparison at the start and after an upgrade.

A description maps each table to sorted lines: one per column, key, unique set, foreign key, check and index, and one for
append-only triggers. The lines are the same on SQLite and PostgreSQL. `versions/NNNN.json` holds those of each revision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, create_engine, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.types import NullType

from chatwright.workspace.text_search import INDEX

VERSIONS = Path(__file__).parent / "versions"
APPEND_ONLY = "append-only"
_TYPES = {
    "BIGINT": "INTEGER",  # a sequence is a BIGINT on PostgreSQL and an INTEGER on SQLite
    "DOUBLE PRECISION": "FLOAT", "DOUBLE_PRECISION": "FLOAT", "REAL": "FLOAT",
    "BYTEA": "BLOB",
}  # fmt: skip
Description = dict[str, list[str]]


def revisions() -> list[str]:
    """Revisions of this version of Chatwright, the oldest first: file names begin with them."""
    return sorted(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


def expected(revision: str) -> Description:
    """The tables that `revision` leaves behind."""
    return dict(json.loads((VERSIONS / f"{revision}.json").read_text(encoding="utf-8")))


def write(revision: str, metadata: MetaData) -> None:
    """Write the description of a new revision: the tables that the code declares."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        found = describe(connection)
    engine.dispose()
    (VERSIONS / f"{revision}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def describe(connection: Connection) -> Description:
    """The tables of a database, without Alembic's own."""
    seen = inspect(connection)
    columns, keys = seen.get_multi_columns(), seen.get_multi_pk_constraint()
    uniques, foreign, indexes = seen.get_multi_unique_constraints(), seen.get_multi_foreign_keys(), seen.get_multi_indexes()
    checks, guarded = seen.get_multi_check_constraints(), _append_only(connection)
    found: Description = {}
    for key in columns:
        table = key[1]
        if table is None or table == "alembic_version" or table.startswith(INDEX):
            continue
        lines = [_column(connection, column) for column in columns[key]]
        if (primary := keys.get(key)) and primary["constrained_columns"]:
            lines.append(f"key {primary['name']} ({', '.join(primary['constrained_columns'])})")
        lines += [f"unique {one['name']} ({', '.join(one['column_names'])})" for one in uniques.get(key, [])]
        lines += [_foreign_key(one) for one in foreign.get(key, [])]
        lines += [f"check {one['name']}" for one in checks.get(key, [])]
        lines += [
            _index(one)
            for one in indexes.get(key, [])
            if is_compared(one, one["name"], "index", True, None) and not one.get("duplicates_constraint")
        ]
        found[table] = sorted(lines + ([APPEND_ONLY] if table in guarded else []))
    return dict(sorted(found.items()))


def deviations(found: Description, wanted: Description) -> list[str]:
    """How the tables of a database differ from the `wanted` ones, a sentence per table; empty when the code can use them.

    Tables, indexes and nullable columns that an operator added are no deviation.
    """
    said = []
    if missing := [table for table in wanted if table not in found]:
        said.append(f"missing tables: {', '.join(missing)}")
    for table in sorted(wanted.keys() & found.keys()):
        lacks = [line for line in wanted[table] if line not in found[table]]
        more = [line for line in found[table] if line not in wanted[table] and _restricts(line)]
        parts = [f"lacks {'; '.join(lacks)}"] * bool(lacks) + [f"has {'; '.join(more)}"] * bool(more)
        if parts:
            said.append(f"table {table} {' and '.join(parts)}")
    return said


def is_compared(_object: object, name: str | None, _kind: str, _reflected: bool, _other: object) -> bool:
    """Alembic's `include_object`: the index of `text_search` is not declared by a table."""
    return not (name or "").startswith(INDEX)


def _restricts(line: str) -> bool:
    needed = line.startswith("column ") and line.endswith("NOT NULL")
    return needed or line.startswith(("unique ", "foreign ", "key ", "check "))


def _column(connection: Connection, column: ReflectedColumn) -> str:
    unknown = isinstance(column["type"], NullType)  # an operator's own column may have any type
    kind = "unknown" if unknown else column["type"].compile(connection.dialect)
    return f"column {column['name']} {_TYPES.get(kind, kind)}{'' if column['nullable'] else ' NOT NULL'}"


def _foreign_key(one: Any) -> str:
    there = f"{one['referred_table']} ({', '.join(one['referred_columns'])})"
    deleted = one.get("options", {}).get("ondelete", "")
    return f"foreign {one['name']} ({', '.join(one['constrained_columns'])}) {there} {deleted}".strip()


def _index(one: Any) -> str:
    columns = ", ".join(str(name) for name in one["column_names"])
    return f"{'unique ' if one['unique'] else ''}index {one['name']} ({columns})"


def _append_only(connection: Connection) -> set[str]:
    """Tables with all of their append-only triggers (`workspace.append_only`)."""
    if connection.dialect.name == "sqlite":
        wanted: tuple[str, ...] = ("update", "delete", "replace")
        query = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"
    else:
        wanted = ("change", "truncate")
        query = (
            "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND c.relnamespace = current_schema()::regnamespace"
        )
    found = {(str(table), str(name)) for table, name in connection.execute(text(query))}
    return {table for table, _ in found if all((table, f"{table}_no_{what}") in found for what in wanted)}
