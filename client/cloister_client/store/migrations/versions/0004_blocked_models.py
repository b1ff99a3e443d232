"""A model version may be kept and not served, with the reason beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("blocked", sa.Text))
