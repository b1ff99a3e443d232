"""Alembic's entry: run the revisions over the connection that ``database.upgrade`` hands in."""

from alembic import context

from cloister_client.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
context.run_migrations()
