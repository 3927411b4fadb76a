"""Tables whose rows stay as they were written: triggers refuse UPDATE and DELETE, whoever asks.

They are made with the table by `create_all`, and in revisions by `op.invoke(AppendOnly(table))`
(`migrations/operations.py`); that line is written for every table marked here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Connection, MetaData, Table, event

_MARK = "append_only"


def append_only(table: Table) -> None:
    """Let nobody change or delete rows of `table`."""
    table.info[_MARK] = True

    @event.listens_for(table, "after_create")
    def guard(target: Table, connection: Connection, **_: Any) -> None:
        for statement in statements(connection.dialect.name, target.name):
            connection.execute(DDL(statement.replace("%", "%%")))


def marked(metadata: MetaData) -> list[str]:
    """Names of the tables that are append-only."""
    return sorted(table.name for table in metadata.tables.values() if table.info.get(_MARK))


def statements(dialect: str, table: str) -> list[str]:
    """What makes the triggers of a table."""
    message = f"{table} is append-only"
    if dialect == "sqlite":
        made = [
            f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} BEGIN SELECT RAISE(ABORT, '{message}'); END"
            for what in ("UPDATE", "DELETE")
        ]
        # INSERT OR REPLACE deletes without asking the trigger above.
        same = f"SELECT 1 FROM {table} WHERE id = NEW.id"
        return [
            *made,
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({same}) "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END",
        ]
    return [
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW "
        f"EXECUTE FUNCTION {table}_refuse()",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION {table}_refuse()",
    ]
