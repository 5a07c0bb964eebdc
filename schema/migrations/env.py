"""What Alembic runs: the migrations over the connection that `sync_server.stores.migrations` hands in."""

from alembic import context

from schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
