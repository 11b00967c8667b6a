"""Alembic's entry: runs the wanted migrations on the connection, and in the transaction, it is given."""

from __future__ import annotations

from alembic import context

from node.store.tables import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
