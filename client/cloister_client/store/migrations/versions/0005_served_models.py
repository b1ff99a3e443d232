"""When a model version went into service last: what a node falls back to has served before."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("served", sa.Double))
    op.execute("UPDATE model_versions SET served = created WHERE active")
