"""The durable ledger: an append-only SQLite file of its own, whatever the store's database is."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from cloister_client.ledger.base import Ledger, new_header
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_format import Entry, LedgerHeader

_SCHEMA = """
CREATE TABLE header (document TEXT NOT NULL);
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE outbox (
    run TEXT, role TEXT, sequence INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (run, role)
);
CREATE TRIGGER entries_are_kept BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class SqliteLedger(Ledger):
    """A ledger file; every transaction takes the write lock and is flushed to disk.

    The outbox keeps the bytes of the latest committed round of each run: an earlier round's reply
    was received, or the coordinator would not have gone on.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__()
        self._connection = connection
        self._path = path
        self._header = self._read_header()

    @classmethod
    def create(cls, path: Path, budget: Budget, enforced: bool = True) -> "SqliteLedger":
        """A new, empty ledger; raises ``LedgerError`` if ``path`` exists: none is overwritten."""
        if path.exists():
            raise LedgerError(f"there is a ledger at {path.name} already; it is never overwritten")
        connection = _connect(path)
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
        header = new_header(budget, enforced).model_dump_json()
        connection.execute("INSERT INTO header VALUES (?)", (header,))
        connection.execute("COMMIT")
        return cls(connection, path)

    @classmethod
    def open(cls, path: Path) -> "SqliteLedger":
        """An existing ledger, its whole chain verified; raises ``LedgerError`` if it is missing.

        A missing ledger is never made anew: that would forget what was spent.
        """
        if not path.exists():
            raise LedgerError(
                f"the ledger {path.name} is missing; restore it from a backup, nothing is released "
                "without it"
            )
        ledger = cls(_connect(path), path)
        ledger.spent()
        return ledger

    @property
    def header(self) -> LedgerHeader:
        """What was fixed when the ledger was created."""
        return self._header

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _entries(self, start: int) -> Sequence[Entry]:
        rows = self._connection.execute(
            "SELECT document FROM entries WHERE sequence >= ? ORDER BY sequence", (start,)
        )
        try:
            return [Entry.model_validate_json(document) for (document,) in rows]
        except ValidationError as error:
            raise LedgerError("an entry of the ledger was altered: it cannot be read") from error

    def _append(self, entry: Entry, payload: bytes | None) -> None:
        self._connection.execute(
            "INSERT INTO entries VALUES (?, ?)", (entry.sequence, entry.model_dump_json())
        )
        if payload is not None:
            row = (entry.charge.run, entry.charge.role, entry.sequence, payload)
            self._connection.execute("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)", row)

    def _payload(self, entry: Entry) -> bytes:
        row = self._connection.execute(
            "SELECT payload FROM outbox WHERE sequence = ?", (entry.sequence,)
        ).fetchone()
        if row is None:
            raise LedgerError(
                f"round {entry.charge.round} of run {entry.charge.run} was answered and the run "
                "went on; its bytes are no longer kept"
            )
        return bytes(row[0])

    def _read_header(self) -> LedgerHeader:
        try:
            (document,) = self._connection.execute("SELECT document FROM header").fetchone()
            return LedgerHeader.model_validate_json(document)
        except (sqlite3.DatabaseError, TypeError, ValidationError) as error:
            raise LedgerError(f"{self._path.name} is not a ledger, or was altered") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")
    return connection
