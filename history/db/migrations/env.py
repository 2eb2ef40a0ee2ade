"""Alembic runs its steps through this file; `history.db.upgrade` hands the connection over."""

from alembic import context

from history.db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
