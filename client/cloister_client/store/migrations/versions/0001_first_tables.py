"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

row_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _learners()
    _what_learners_did()
    _what_learners_said()
    _models()
    op.create_table(
        "meta",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
    )


def _learners() -> None:
    op.create_table(
        "learners",
        sa.Column("id", row_id, nullable=False),
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.Column("cohort", sa.Text, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("answers", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_learners"),
        sa.UniqueConstraint("pseudonym", name="uq_learners_pseudonym"),
        sa.CheckConstraint("role IN ('train', 'evaluation')", name=op.f("ck_learners_role")),
        sqlite_autoincrement=True,
    )


def _learner(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["learner_id"], ["learners.id"], name=f"fk_{table}_learner_id", ondelete="CASCADE"
    )


def _what_learners_did() -> None:
    op.create_table(
        "interactions",
        sa.Column("id", row_id, nullable=False),
        sa.Column("learner_id", row_id, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
        sa.Column("item", sa.Integer, nullable=False),
        sa.Column("skills", sa.Text),
        sa.Column("correct", sa.Boolean, nullable=False),
        sa.Column("when", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_interactions"),
        sa.UniqueConstraint(
            "learner_id", "fingerprint", name="uq_interactions_learner_id_fingerprint"
        ),
        _learner("interactions"),
    )
    op.create_table(
        "activities",
        sa.Column("id", row_id, nullable=False),
        sa.Column("learner_id", row_id, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(16), nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("item", sa.Integer),
        sa.Column("when", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_activities"),
        sa.UniqueConstraint(
            "learner_id", "fingerprint", name="uq_activities_learner_id_fingerprint"
        ),
        _learner("activities"),
    )


def _what_learners_said() -> None:
    op.create_table(
        "consents",
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("granted", sa.Boolean, nullable=False),
        sa.Column("changed", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("pseudonym", "purpose", name="pk_consents"),
    )
    op.create_table(
        "erasures",
        sa.Column("pseudonym", sa.String(32), nullable=False),
        sa.Column("erased", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("pseudonym", name="pk_erasures"),
    )


def _models() -> None:
    versions = op.create_table(
        "model_versions",
        sa.Column("id", row_id, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("plan", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("weights", sa.LargeBinary, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_versions"),
        sa.UniqueConstraint("version", name="uq_model_versions_version"),
        sa.UniqueConstraint("kind", "plan", "round", name="uq_model_versions_kind_plan_round"),
    )
    op.create_index(
        "one_active_version",
        "model_versions",
        ["kind"],
        unique=True,
        sqlite_where=versions.c.active == sa.true(),
        postgresql_where=versions.c.active == sa.true(),
    )
    op.create_table(
        "learner_states",
        sa.Column("learner_id", row_id, nullable=False),
        sa.Column("model_version_id", row_id, nullable=False),
        sa.Column("answers", sa.Integer, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("learner_id", "model_version_id", name="pk_learner_states"),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name="fk_learner_states_model_version_id",
            ondelete="CASCADE",
        ),
        _learner("learner_states"),
    )
