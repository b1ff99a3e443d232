"""Learners may be in a group of the node's public vocabulary."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("learners", sa.Column("group", sa.String(32)))
