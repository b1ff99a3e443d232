"""The ledger's SQLite file: its tables, its connections, and its errors in one sentence.

Beside the release chain it holds the personal chain, which never leaves the node.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from cloister_client.sqlite_log import begin_log
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_format import LedgerHeader
from cloister_shared.signing import SigningKey

PATIENCE_S = 30.0
"""How long one process waits for another's transaction."""

SCHEMA = """
CREATE TABLE header (document TEXT NOT NULL);
CREATE TABLE head (document TEXT NOT NULL);
CREATE TABLE balance (document TEXT NOT NULL);
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE outbox (
    run TEXT, role TEXT, sequence INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (run, role)
);
CREATE TABLE personal (sequence INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE personal_head (document TEXT NOT NULL);
CREATE TABLE openings (
    sequence INTEGER PRIMARY KEY, length INTEGER NOT NULL, salt BLOB NOT NULL
);
CREATE TABLE receipt (document TEXT NOT NULL);
CREATE TABLE place (inode TEXT NOT NULL);
CREATE TRIGGER entries_are_kept BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER personal_are_kept BEFORE DELETE ON personal
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER personal_stay BEFORE UPDATE ON personal
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
"""``openings`` tells what the commitment in RESERVE number ``sequence`` is of: the personal chain's
first ``length`` entries, under ``salt``. ``receipt`` is the coordinator's latest."""


def require(path: Path) -> None:
    """Raise ``LedgerError`` unless there is a file."""
    if not path.exists():
        raise LedgerError(
            f"the ledger {path.name} is missing; restore it from a backup, nothing is released "
            "without it"
        )


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose transactions are begun by hand, and flushed to disk when they end."""
    connection = sqlite3.connect(
        path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
    )
    begin_log(connection, PATIENCE_S)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")
    return connection


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an existing ledger, for as long as it is needed."""
    require(path)
    with usable(path), closing(connect(path)) as connection:
        yield connection


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what SQLite cannot do with the file into a ``LedgerError``."""
    try:
        yield
    # SQLite's own messages quote a damaged file, not always in UTF-8.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise LedgerError(
            f"the ledger {path.name} cannot be read or written ({error}); nothing is released "
            "without it"
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Exclusive over all processes; durable when left, undone by an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def read_header(connection: sqlite3.Connection, path: Path) -> LedgerHeader:
    """What was fixed when the ledger was made; a ``LedgerError`` if it is none."""
    try:
        (document,) = connection.execute("SELECT document FROM header").fetchone()
        if '"format":1,' in document:
            raise LedgerError(
                f"the ledger {path.name} has format 1, which is no longer read; finish what runs "
                "with the version that made it, or make a new node"
            )
        return LedgerHeader.model_validate_json(document)
    except (TypeError, ValidationError) as error:
        raise LedgerError(f"{path.name} is not a ledger, or was altered") from error


def require_key(header: LedgerHeader, key: SigningKey) -> None:
    """Raise ``LedgerError`` unless ``key`` is the one that the ledger was made with."""
    if header.key != key.public:
        raise LedgerError(
            "the ledger was made with another signing key than this node's; restore the keys that "
            "belong to it"
        )
