"""The durable ledger: an append-only SQLite file of its own, whatever the store's database is."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cloister_client.ledger.base import Ledger, Reservation, new_ledger
from cloister_client.ledger.file import (
    PATIENCE_S,
    SCHEMA,
    connect,
    opened,
    read_header,
    require,
    transaction,
    usable,
)
from cloister_client.ledger.personal import Opening, begin_personal_chain, personal_state
from cloister_client.sqlite_log import empty_log
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_chain import latest_totals
from cloister_shared.privacy.ledger_format import (
    Balance,
    Entry,
    HeadReceipt,
    LedgerHeader,
    RoundKey,
    SignedHead,
)
from cloister_shared.privacy.ledger_totals import Totals
from cloister_shared.signing import SigningKey

_BALANCE_EVERY = 1000
"""Entries between two signed balances."""
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class SqliteLedger(Ledger):
    """A ledger file; every transaction takes the write lock and is flushed to disk.

    Bytes may be sent once the file itself, not only SQLite's log beside it, holds their charge:
    a log is easily lost, or left out of a backup. The outbox keeps the bytes of the latest
    committed round of each run: an earlier round's reply was received, or the coordinator would
    not have gone on.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, key: SigningKey) -> None:
        super().__init__(read_header(connection, path), key)
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls, path: Path, budget: Budget, key: SigningKey, enforced: bool = True
    ) -> "SqliteLedger":
        """A new, empty ledger; raises ``LedgerError`` if ``path`` exists: none is overwritten."""
        try:
            path.touch(exist_ok=False)
        except OSError as error:
            raise LedgerError(
                f"cannot make a ledger at {path.name}: {error.strerror}; none is ever overwritten"
            ) from error
        header, head = new_ledger(budget, key, enforced)
        with usable(path):
            connection = connect(path)
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
            connection.execute("INSERT INTO header VALUES (?)", (header.model_dump_json(),))
            connection.execute("INSERT INTO head VALUES (?)", (head.model_dump_json(),))
            begin_personal_chain(connection, header, key)
            connection.execute("COMMIT")
        return cls(connection, path, key)

    @classmethod
    def open(cls, path: Path, key: SigningKey) -> "SqliteLedger":
        """An existing ledger, its whole chain verified; raises ``LedgerError`` if it is missing.

        A missing ledger is never made anew: that would forget what was spent.
        """
        require(path)
        with usable(path):
            ledger = cls(connect(path), path, key)
        ledger.spent()
        return ledger

    @classmethod
    def totals(cls, path: Path, key: SigningKey) -> tuple[LedgerHeader, Totals]:
        """What a ledger's charges add up to, at once: from its last signed balance on.

        Only the entries since are read. Raises ``LedgerError`` as :meth:`open` does, but not for
        an older entry that was altered.
        """
        with opened(path) as connection:
            ledger = cls(connection, path, key)
            with ledger._transaction():
                balance = ledger._balance()
                entries = ledger._entries(balance.length if balance else 0)
                return ledger.header, latest_totals(ledger.header, balance, entries, ledger._head())

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        """Put ``payload`` into the outbox and empty the log into the file, before it is sent."""
        super().commit(reservation, payload)
        with self._lock, usable(self._path):
            empty_log(self._connection, PATIENCE_S)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, usable(self._path), transaction(self._connection):
            yield

    def _entries(self, start: int) -> Iterator[tuple[Entry, str]]:
        rows = self._connection.execute(
            "SELECT text FROM entries WHERE sequence >= ? ORDER BY sequence", (start,)
        )
        try:
            for (text,) in rows:
                yield _ENTRY.validate_json(text), sha256(text).hexdigest()
        except (ValidationError, TypeError) as error:
            raise LedgerError("an entry of the ledger was altered: it cannot be read") from error

    def _head(self) -> SignedHead:
        row = self._connection.execute("SELECT document FROM head").fetchone()
        try:
            return SignedHead.model_validate_json(row[0] if row else "")
        except ValidationError as error:
            raise LedgerError("the ledger's head was altered: it cannot be read") from error

    def _balance(self) -> Balance | None:
        """The last signed balance; ``None`` in a short ledger."""
        row = self._connection.execute("SELECT document FROM balance").fetchone()
        try:
            return None if row is None else Balance.model_validate_json(row[0])
        except ValidationError as error:
            raise LedgerError("the ledger's balance was altered: it cannot be read") from error

    def _append(self, entry: Entry, head: SignedHead) -> None:
        if self._chain.length % _BALANCE_EVERY == 0 and self._chain.length:
            self._keep_balance()
        self._connection.execute("INSERT INTO entries VALUES (?, ?)", (head.length - 1, entry.text))
        self._connection.execute("UPDATE head SET document = ?", (head.model_dump_json(),))

    def _keep_balance(self) -> None:
        chain = self._chain
        balance = chain.totals.balance(self.header.ledger, chain.length, chain.last)
        self._connection.execute("DELETE FROM balance")
        document = balance.signed(self._key).model_dump_json()
        self._connection.execute("INSERT INTO balance VALUES (?)", (document,))

    def _receipt(self) -> HeadReceipt | None:
        row = self._connection.execute("SELECT document FROM receipt").fetchone()
        try:
            return None if row is None else HeadReceipt.model_validate_json(row[0])
        except ValidationError as error:
            raise LedgerError("the coordinator's receipt was altered: it cannot be read") from error

    def _keep_receipt(self, receipt: HeadReceipt) -> None:
        self._connection.execute("DELETE FROM receipt")
        document = receipt.model_dump_json()
        self._connection.execute("INSERT INTO receipt VALUES (?)", (document,))

    def _personal(self) -> tuple[int, str]:
        return personal_state(self._connection, self.header)

    def _keep_opening(self, entry: int, opening: Opening) -> None:
        row = (entry, opening.length, opening.salt)
        self._connection.execute("INSERT INTO openings VALUES (?, ?, ?)", row)

    def _keep_payload(self, key: RoundKey, entry: int, payload: bytes) -> None:
        run, _, role = key
        row = (run, role, entry, payload)
        self._connection.execute("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)", row)

    def _payload(self, key: RoundKey, entry: int) -> bytes | None:
        del key  # a COMMIT's number is enough
        row = self._connection.execute(
            "SELECT payload FROM outbox WHERE sequence = ?", (entry,)
        ).fetchone()
        return None if row is None else bytes(row[0])
