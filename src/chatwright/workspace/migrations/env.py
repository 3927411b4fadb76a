"""Alembic's entry: runs on the connection that `chatwright.workspace.migrations` hands over."""

from alembic import context

from chatwright.workspace.migrations.schema import is_compared

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    compare_type=True,
    include_object=is_compared,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
