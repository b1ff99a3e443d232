"""The store's tables. Times are seconds since 1970 (UTC); learners are pseudonyms only.

``migrations/`` must lead to exactly these tables; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

RowId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the column is a plain INTEGER."""


def _learner_reference(primary_key: bool = False) -> Column[int]:
    """A learner; erasing them erases the row."""
    reference = ForeignKey("learners.id", ondelete="CASCADE")
    return Column("learner_id", RowId, reference, primary_key=primary_key, nullable=False)


learners = Table(
    "learners",
    METADATA,
    Column("id", RowId, primary_key=True),
    Column("pseudonym", String(32), nullable=False, unique=True),
    Column("tombstone", String(64), nullable=False, server_default=text("''")),
    Column("cohort", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("group", String(32)),
    Column("answers", Integer, nullable=False, server_default=text("0")),
    Column("created", Double, nullable=False),
    CheckConstraint("role IN ('train', 'evaluation')", name="role"),
    sqlite_autoincrement=True,  # the number of an erased learner is never given out again
)
"""``tombstone`` is all that will be left of the learner when they are erased. ``group`` is one of
the node's public vocabulary, by which figures are told apart; NULL for none.
``answers`` is the number of the learner's interactions: rows are only ever added, so it also
tells readers that there are new ones."""

Index("one_tombstone", learners.c.tombstone, unique=True)

interactions = Table(
    "interactions",
    METADATA,
    Column("id", RowId, primary_key=True),
    _learner_reference(),
    Column("fingerprint", LargeBinary(16), nullable=False),
    Column("item", Integer, nullable=False),
    Column("skills", Text),
    Column("correct", Boolean, nullable=False),
    Column("when", Double, nullable=False),
    UniqueConstraint("learner_id", "fingerprint"),
)
"""``id`` is the order of arrival, ``item`` a position in the curriculum; ``skills`` are positions
separated by blanks, NULL where they are those that the curriculum gives the item."""

activities = Table(
    "activities",
    METADATA,
    Column("id", RowId, primary_key=True),
    _learner_reference(),
    Column("fingerprint", LargeBinary(16), nullable=False),
    Column("verb", Text, nullable=False),
    Column("item", Integer),
    Column("when", Double, nullable=False),
    UniqueConstraint("learner_id", "fingerprint"),
)
"""What was done without a grade; ``item`` is NULL where it concerns none of the curriculum's."""

wishes = Table(
    "wishes",
    METADATA,
    Column("tombstone", String(64), primary_key=True),
    Column("consent", Boolean),
    Column("erased", Boolean, nullable=False),
    Column("role", String(16)),
    Column("cohort", Text),
    Column("traces", Boolean, nullable=False),
)
"""What learners asked for, as the personal chain says; it holds before they first appear and after
they were erased. ``consent`` is NULL where they said nothing; role and cohort are those in which an
erased learner goes on, should they come back. ``traces``: rows of theirs were deleted, the file was
not yet written anew without them."""

model_versions = Table(
    "model_versions",
    METADATA,
    Column("id", RowId, primary_key=True),
    Column("version", String(64), nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("plan", String(64), nullable=False),
    Column("round", Integer, nullable=False),
    Column("weights", LargeBinary, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("blocked", Text),
    Column("served", Double),
    UniqueConstraint("kind", "plan", "round"),
)
"""``version`` is a digest of all that defines it, ``weights`` a safetensors document; ``blocked``
says why it is not served, ``served`` when it went into service last, in seconds since 1970."""

Index(
    "one_active_version",
    model_versions.c.kind,
    unique=True,
    sqlite_where=model_versions.c.active == true(),
    postgresql_where=model_versions.c.active == true(),
)

release_serials = Table(
    "release_serials",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("serial", BigInteger, nullable=False),
)
"""The highest serial of the releases of each kind that were kept: the coordinator's last choice."""

learner_states = Table(
    "learner_states",
    METADATA,
    _learner_reference(primary_key=True),
    Column(
        "model_version_id",
        RowId,
        ForeignKey("model_versions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("answers", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
"""A model's memory of a learner after their first ``answers`` answers."""

meta = Table(
    "meta",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the store belongs to: curriculum, keys, whether it is a simulation's."""
