"""Alembic's scripts, applied whenever a store is opened; a new revision is a new file."""
