"""What learners asked for, brought from the personal chain into the store."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, delete, exists, select, update

from cloister_client.ledger.personal import Wish
from cloister_client.store.database import chunks, insert
from cloister_client.store.tables import learners, wishes
from cloister_shared.privacy.ledger_format import Role

_SAID = ("consent", "erased", "role", "cohort")


def follow(connection: Connection, asked: Mapping[str, Wish]) -> None:
    """Make the store what ``asked`` says, by tombstone; wishes that it does not name stay."""
    for tombstone, wish in asked.items():
        said = {name: getattr(wish, name) for name in _SAID}
        statement = insert(connection, wishes).values(tombstone=tombstone, traces=False, **said)
        connection.execute(statement.on_conflict_do_update(index_elements=["tombstone"], set_=said))
    gone = wishes.c.erased & exists().where(learners.c.tombstone == wishes.c.tombstone)
    connection.execute(update(wishes).where(gone).values(traces=True))
    erased = select(wishes.c.tombstone).where(wishes.c.erased)
    connection.execute(delete(learners).where(learners.c.tombstone.in_(erased)))


def has_traces(connection: Connection) -> bool:
    """Whether rows of an erased learner were deleted and may still be found in the file."""
    return bool(connection.scalar(select(exists().where(wishes.c.traces))))


def no_traces(connection: Connection) -> None:
    """The file was written anew without what had been deleted."""
    connection.execute(update(wishes).values(traces=False))


def erased_among(
    connection: Connection, pseudonyms: Sequence[str], tombstone_of: Callable[[str], str]
) -> set[str]:
    """Those of ``pseudonyms`` that were erased and not readmitted."""
    by_tombstone = {tombstone_of(one): one for one in pseudonyms}
    return {
        by_tombstone[tombstone]
        for chunk in chunks(list(by_tombstone))
        for tombstone in connection.scalars(
            select(wishes.c.tombstone).where(wishes.c.tombstone.in_(chunk), wishes.c.erased)
        )
    }


def earlier_places(
    connection: Connection, tombstones: Sequence[str]
) -> dict[str, tuple[Role, str]]:
    """Role and cohort of those of ``tombstones`` who were here before."""
    columns = (wishes.c.tombstone, wishes.c.role, wishes.c.cohort)
    return {
        tombstone: (role, cohort)
        for chunk in chunks(tombstones)
        for tombstone, role, cohort in connection.execute(
            select(*columns).where(wishes.c.tombstone.in_(chunk), wishes.c.role.is_not(None))
        )
    }
