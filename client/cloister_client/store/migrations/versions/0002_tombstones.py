"""Wishes under tombstones, in place of consents and erasures under pseudonyms."""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "wishes",
        sa.Column("tombstone", sa.String(64), nullable=False),
        sa.Column("consent", sa.Boolean),
        sa.Column("erased", sa.Boolean, nullable=False),
        sa.Column("role", sa.String(16)),
        sa.Column("cohort", sa.Text),
        sa.Column("traces", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tombstone", name="pk_wishes"),
    )
    # Not by a new table in place of the old: to drop that one would drop all that refers to it.
    column = sa.Column("tombstone", sa.String(64), nullable=False, server_default=sa.text("''"))
    op.add_column("learners", column)
    _carry_over()
    op.create_index("one_tombstone", "learners", ["tombstone"], unique=True)
    op.drop_table("consents")
    op.drop_table("erasures")


def _carry_over() -> None:
    """Whoever said no to anything says no; whoever was erased stays erased."""
    connection, tombstone = op.get_bind(), context.config.attributes["tombstone"]
    for (pseudonym,) in connection.execute(sa.text("SELECT pseudonym FROM learners")).all():
        connection.execute(
            sa.text("UPDATE learners SET tombstone = :tombstone WHERE pseudonym = :pseudonym"),
            {"tombstone": tombstone(pseudonym), "pseudonym": pseudonym},
        )
    said: dict[str, tuple[bool | None, bool]] = {}
    for pseudonym, granted in connection.execute(
        sa.text("SELECT pseudonym, granted FROM consents")
    ).all():
        before, _ = said.get(pseudonym, (None, False))
        said[pseudonym] = (bool(granted) and before is not False, False)
    for (pseudonym,) in connection.execute(sa.text("SELECT pseudonym FROM erasures")).all():
        said[pseudonym] = (said.get(pseudonym, (None, False))[0], True)
    for pseudonym, (consent, erased) in said.items():
        connection.execute(
            sa.text(
                "INSERT INTO wishes (tombstone, consent, erased, traces) "
                "VALUES (:tombstone, :consent, :erased, :erased)"
            ),
            {"tombstone": tombstone(pseudonym), "consent": consent, "erased": erased},
        )
