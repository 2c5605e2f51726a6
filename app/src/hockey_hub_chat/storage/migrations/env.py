"""Alembic's entry: runs the scripts on the connection that ``storage.migrate`` hands over. There is no offline mode."""

from alembic import context

from hockey_hub_chat.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
