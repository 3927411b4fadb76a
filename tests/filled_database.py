"""Rows in every table of a database, made from the tables themselves, and their content for comparison."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Column, Connection, Float, Integer, LargeBinary, MetaData, String, Table, select

ROWS = 3
Content = dict[str, list[dict[str, Any]]]


def fill(connection: Connection) -> None:
    """Insert rows into every table but Alembic's. Row n refers to row n of other tables and to row n - 1 of its own."""
    metadata = _tables(connection)
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        rows[table.name] = []
        for n in range(ROWS):
            rows[table.name].append(row := {c.name: _value(table, c, n, rows) for c in table.columns})
            connection.execute(table.insert(), [row])


def content(connection: Connection) -> Content:
    """Every row of every table but Alembic's, in the order of the primary keys."""
    return {
        table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
        for table in _tables(connection).sorted_tables
    }


def _tables(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name != "alembic_version")
    return metadata


def _value(table: Table, column: Column[Any], n: int, rows: dict[str, list[dict[str, Any]]]) -> Any:
    for key in column.foreign_keys:
        there = key.column
        if there.table is not table:
            return rows[there.table.name][n][there.name]
        return rows[table.name][n - 1][there.name] if n else None
    kind = column.type
    if isinstance(kind, String):  # Text too
        return f"{n} {table.name}.{column.name} 中文 😀"[: kind.length]
    if isinstance(kind, Boolean):
        return n % 2 == 1
    if isinstance(kind, Integer):
        return n + 1
    if isinstance(kind, Float):
        return n + 0.125
    if isinstance(kind, JSON):
        return {"n": n, "text": 'é "quoted" 中文', "list": [None, 1.5, True]}
    assert isinstance(kind, LargeBinary), f"{table.name}.{column.name}: no value for {kind!r}"
    return bytes([n, 0, 255])
