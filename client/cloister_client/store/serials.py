"""How far the coordinator's choices have come, by model kind: a node follows no earlier one."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, func, select

from cloister_client.store.database import insert
from cloister_client.store.tables import release_serials
from cloister_shared.errors import PolicyError


def advance(connection: Connection, kinds: Collection[str], serial: int) -> None:
    """Note that a release of these kinds is kept; its serial may be the highest there was.

    Raises ``PolicyError`` for a lower one.
    """
    columns = release_serials.c
    highest = select(func.max(columns.serial)).where(columns.kind.in_(kinds))
    if serial < (connection.scalar(highest) or 0):
        raise PolicyError(
            "a later release was kept before: somebody sent an old one again, or the coordinator "
            "was put back from a backup and must promote its models once more",
            "old_release",
        )
    for kind in kinds:
        statement = insert(connection, release_serials).values(kind=kind, serial=serial)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["kind"], set_={"serial": serial})
        )


def forget(connection: Connection) -> None:
    """Begin anew, with any serial: they are one coordinator's, and now there is another."""
    connection.execute(delete(release_serials))
