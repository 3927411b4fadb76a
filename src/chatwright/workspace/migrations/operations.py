"""What our revisions do beyond Alembic's own operations: the triggers of tables that are append-only."""

from __future__ import annotations

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from chatwright.workspace.append_only import statements


class AppendOnly(MigrateOperation):
    """In a revision: make the triggers of a table, or with `lift` remove what would outlive it."""

    def __init__(self, table: str, *, lift: bool = False) -> None:
        self.table, self.lift = table, lift


@Operations.implementation_for(AppendOnly)
def _apply(operations: Operations, operation: AppendOnly) -> None:
    dialect = operations.get_bind().dialect.name
    if not operation.lift:
        made = statements(dialect, operation.table)
    else:  # triggers go with their table; PostgreSQL keeps the function
        made = [] if dialect == "sqlite" else [f"DROP FUNCTION IF EXISTS {operation.table}_refuse() CASCADE"]
    for statement in made:
        operations.execute(statement)


@renderers.dispatch_for(AppendOnly)
def _render(context: AutogenContext, operation: AppendOnly) -> str:
    context.imports.add("from chatwright.workspace.migrations.operations import AppendOnly")
    return f"op.invoke(AppendOnly({operation.table!r}{', lift=True' if operation.lift else ''}))"
