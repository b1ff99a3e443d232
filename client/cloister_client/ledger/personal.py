"""The personal chain: what learners asked for. It lies in the ledger's file and never leaves it.

Its subjects are tombstones, keyed hashes that tell nothing without the node's key. The release
chain holds only a salted commitment to it, fresh in every RESERVE, so that nothing about who left
can be counted from outside.
"""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from cloister_client.ledger.file import (
    PATIENCE_S,
    connect,
    read_header,
    require,
    require_key,
    transaction,
    usable,
)
from cloister_client.sqlite_log import empty_log
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_format import LedgerHeader, Link, Reserve, Role, Signed
from cloister_shared.signing import SigningKey

WishKind = Literal["OPT_OUT", "OPT_IN", "ERASE", "READMIT"]
SALT_BYTES = 32
_UNREADABLE = "one of learners' wishes was altered: it cannot be read"


class PersonalEntry(Link):
    """One wish; ERASE keeps role and cohort, in which a learner who comes back goes on."""

    kind: WishKind
    tombstone: str
    role: Role | None = None
    cohort: str | None = None


class PersonalHead(Signed):
    """Where a personal chain ends."""

    purpose = "personal_head"


@dataclass(frozen=True, slots=True)
class Wish:
    """What holds of a learner now: their yes or no, if they said any, and whether they are gone."""

    consent: bool | None = None
    erased: bool = False
    role: Role | None = None
    cohort: str | None = None

    def then(self, entry: PersonalEntry) -> "Wish":
        """What holds after one more wish."""
        if entry.kind == "ERASE":
            role, cohort = self.role or entry.role, self.cohort or entry.cohort
            return replace(self, erased=True, role=role, cohort=cohort)
        if entry.kind == "READMIT":
            return replace(self, erased=False)
        return replace(self, consent=entry.kind == "OPT_IN")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a commitment is of: a personal chain's length and last digest, under a salt."""

    length: int
    digest: str
    salt: bytes

    @classmethod
    def of(cls, length: int, digest: str) -> Self:
        """With a fresh salt."""
        return cls(length, digest, secrets.token_bytes(SALT_BYTES))

    @property
    def commitment(self) -> str:
        """SHA-256 of salt and digest, 64 hex digits."""
        return hashlib.sha256(self.salt + bytes.fromhex(self.digest)).hexdigest()


class PersonalChain:
    """The personal chain of one ledger file, verified whenever it is read.

    It does not need the release chain to be in order: a wish is never refused for that.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, key: SigningKey) -> None:
        self._connection = connection
        self._path = path
        self._key = key
        self._header = read_header(connection, path)
        require_key(self._header, key)

    @classmethod
    def open(cls, path: Path, key: SigningKey) -> "PersonalChain":
        """That of the ledger at ``path``; raises ``LedgerError`` if it is missing or altered."""
        require(path)
        with usable(path):
            chain = cls(connect(path), path, key)
        chain.wishes()
        return chain

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def wishes(self) -> dict[str, Wish]:
        """What holds of everybody who ever asked for anything, by tombstone."""
        with usable(self._path), transaction(self._connection):
            return self._verified()

    def append(
        self,
        kind: WishKind,
        tombstone: str,
        role: Role | None = None,
        cohort: str | None = None,
    ) -> None:
        """One more wish; durable, and in the file itself, when this returns."""
        with usable(self._path):
            with transaction(self._connection):
                self._verified()
                length, last = personal_state(self._connection, self._header)
                entry = PersonalEntry(
                    previous=last, kind=kind, tombstone=tombstone, role=role, cohort=cohort
                )
                self._connection.execute("INSERT INTO personal VALUES (?, ?)", (length, entry.text))
                head = _head(self._header, length + 1, entry.digest, self._key)
                self._connection.execute("UPDATE personal_head SET document = ?", (head,))
            empty_log(self._connection, PATIENCE_S)

    def _verified(self) -> dict[str, Wish]:
        """All wishes; ``LedgerError`` unless chain, signed head and last commitment agree."""
        digests, wishes = [self._header.digest], dict[str, Wish]()
        for text in _texts(self._connection):
            entry = _read(text)
            if entry.previous != digests[-1]:
                raise LedgerError("the chain of learners' wishes was altered, or some are missing")
            digests.append(_digest(text))
            wishes[entry.tombstone] = wishes.get(entry.tombstone, Wish()).then(entry)
        self._check_head(len(digests) - 1, digests[-1])
        self._check_commitment(digests)
        return wishes

    def _check_head(self, length: int, digest: str) -> None:
        row = self._connection.execute("SELECT document FROM personal_head").fetchone()
        try:
            head = PersonalHead.model_validate_json(row[0] if row else "")
        except (ValidationError, TypeError) as error:
            raise LedgerError("the head of learners' wishes cannot be read") from error
        named = (head.ledger, head.length, head.digest)
        if named != (self._header.ledger, length, digest):
            raise LedgerError("the chain of learners' wishes was cut off or altered")
        if not head.is_signed_by(self._header.key):
            raise LedgerError("the head of learners' wishes is not signed with the ledger's key")

    def _check_commitment(self, digests: list[str]) -> None:
        """An older copy of the chain is shorter than the last RESERVE says."""
        row = self._connection.execute(
            "SELECT text, length, salt FROM openings JOIN entries USING (sequence) "
            "ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return
        text, length, salt = row
        if length >= len(digests):
            raise LedgerError("the last charge was made when learners had asked for more than this")
        try:
            committed = Reserve.model_validate_json(text).personal
        except (ValidationError, TypeError) as error:
            raise LedgerError("an entry of the ledger was altered: it cannot be read") from error
        if Opening(length, digests[length], salt).commitment != committed:
            raise LedgerError("the chain of learners' wishes is not what the last charge says")


def begin_personal_chain(
    connection: sqlite3.Connection, header: LedgerHeader, key: SigningKey
) -> None:
    """The head of an empty chain; within the transaction that makes the ledger."""
    head = _head(header, 0, header.digest, key)
    connection.execute("INSERT INTO personal_head VALUES (?)", (head,))


def personal_state(connection: sqlite3.Connection, header: LedgerHeader) -> tuple[int, str]:
    """Length and last digest of the chain, the header's where nobody asked for anything."""
    row = connection.execute(
        "SELECT sequence, text FROM personal ORDER BY sequence DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return 0, header.digest
    return row[0] + 1, _digest(row[1])


def _head(header: LedgerHeader, length: int, digest: str, key: SigningKey) -> str:
    blank = PersonalHead(ledger=header.ledger, length=length, digest=digest)
    return blank.signed(key).model_dump_json()


def _texts(connection: sqlite3.Connection) -> list[bytes]:
    return [row[0] for row in connection.execute("SELECT text FROM personal ORDER BY sequence")]


def _read(text: bytes) -> PersonalEntry:
    try:
        return PersonalEntry.model_validate_json(text)
    except (ValidationError, TypeError) as error:
        raise LedgerError(_UNREADABLE) from error


def _digest(text: bytes) -> str:
    if not isinstance(text, bytes):
        raise LedgerError(_UNREADABLE)
    return hashlib.sha256(text).hexdigest()
