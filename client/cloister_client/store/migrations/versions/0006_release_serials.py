"""Releases have serials: an old one that is sent again is known for what it is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "release_serials",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_release_serials"),
    )
