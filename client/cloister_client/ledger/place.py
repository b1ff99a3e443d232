"""Where a ledger's file lies: a copy lies elsewhere, and two copies would spend one budget twice.

A file keeps its inode when it is moved within its file system, and when SQLite writes it anew. No
copy has it. The device is left out: many file systems are given another number at each start.
"""

from pathlib import Path

from cloister_client.ledger.file import opened, require, transaction
from cloister_shared.errors import LedgerError


def require_place(path: Path) -> None:
    """Raise ``LedgerError`` unless the ledger lies where it lay before; note where, at first."""
    require(path)
    here = str(path.stat().st_ino)
    with opened(path) as connection, transaction(connection):
        row = connection.execute("SELECT inode FROM place").fetchone()
        if row is None:
            connection.execute("INSERT INTO place VALUES (?)", (here,))
        elif row[0] != here:
            raise LedgerError(
                f"the ledger {path.name} is a copy: two would spend one budget twice; to move a "
                "node use cloister node backup and cloister node restore",
                "ledger_copied",
            )


def forget_place(path: Path) -> None:
    """Let the ledger be noted where it is opened next: it was restored, and is about to move."""
    with opened(path) as connection, transaction(connection):
        connection.execute("DELETE FROM place")
