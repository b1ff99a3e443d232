"""Reserve, start, commit: the rules of the ledger, whatever keeps its entries.

The order of events in a round is RESERVE (durable) → START → data is read → COMMIT with the bytes
to send (durable) → send. A crash at any point leaves the charge standing; a round that was
committed is answered again with identical bytes and costs nothing more. With every entry the head
is signed anew. What the coordinator has seen of the ledger is held against it before anything else.
"""

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cloister_client.ledger.file import require_key
from cloister_client.ledger.personal import Opening
from cloister_client.ledger.receipts import check_fit, check_receipt, require_lifted
from cloister_shared import __version__
from cloister_shared.errors import INFINITE, BudgetExceededError, LedgerError
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_chain import Chain, Released
from cloister_shared.privacy.ledger_format import (
    RELEASE_KIND,
    Charge,
    Commit,
    Entry,
    HeadReceipt,
    LedgerExport,
    LedgerHeader,
    Lift,
    Reserve,
    Restore,
    Role,
    RoundKey,
    SignedHead,
    Start,
)
from cloister_shared.privacy.ledger_totals import SpendByGroup
from cloister_shared.signing import SigningKey


@dataclass(frozen=True, slots=True)
class Reservation:
    """A charge that stands, as entry number ``entry``.

    ``charge.cohorts`` are those that could pay; only their learners may be read. ``payload`` is set
    when the round was already committed: re-send it, and read nobody.
    """

    charge: Charge
    entry: int
    payload: bytes | None = None


class Ledger(ABC):
    """One node's ledger. Implementations keep entries, head and outbox; the rules are here.

    Raises ``LedgerError`` unless ``key`` is the one that the ledger was made with.
    """

    def __init__(self, header: LedgerHeader, key: SigningKey) -> None:
        require_key(header, key)
        self._header = header
        self._key = key
        self._chain = Chain(header)

    @property
    def header(self) -> LedgerHeader:
        """What was fixed when the ledger was created."""
        return self._header

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Exclusive over all processes; durable when left, undone by an exception."""

    @abstractmethod
    def _entries(self, start: int) -> Iterable[tuple[Entry, str]]:
        """Entries from number ``start`` on as they were kept, with the digests of what was kept."""

    @abstractmethod
    def _head(self) -> SignedHead:
        """The signed head, as it was kept."""

    @abstractmethod
    def _append(self, entry: Entry, head: SignedHead) -> None:
        """Keep one more entry and the head that it leads to; called within a transaction."""

    @abstractmethod
    def _personal(self) -> tuple[int, str]:
        """Length and last digest of the personal chain; called within a transaction."""

    @abstractmethod
    def _keep_opening(self, entry: int, opening: Opening) -> None:
        """Keep what the commitment in RESERVE number ``entry`` is of; within a transaction."""

    @abstractmethod
    def _keep_payload(self, key: RoundKey, entry: int, payload: bytes) -> None:
        """Keep the bytes of COMMIT number ``entry``, in place of its run's and role's earlier."""

    @abstractmethod
    def _payload(self, key: RoundKey, entry: int) -> bytes | None:
        """The bytes of COMMIT number ``entry``; ``None`` if its run has committed another since."""

    @abstractmethod
    def _receipt(self) -> HeadReceipt | None:
        """The receipt that was kept last."""

    @abstractmethod
    def _keep_receipt(self, receipt: HeadReceipt) -> None:
        """Keep a receipt in place of the last; called within a transaction."""

    def acknowledge(self, receipt: HeadReceipt, witness: str | None = None) -> None:
        """Hold what the coordinator has seen of this ledger against it, and keep the receipt.

        A ledger that was put back from a backup is usable again if the receipt answers that and the
        backup has all that was seen. Raises ``LedgerError`` if the receipt is not by ``witness``
        (by whoever gave the first, if ``None``), is of another ledger, or does not fit.
        """
        with self._transaction():
            chain, kept = self._caught_up(), self._receipt()
            check_receipt(receipt, kept, self.header.ledger, witness)
            if receipt == kept or (chain.restored is not None and receipt.nonce != chain.restored):
                return
            check_fit(receipt, chain)
            if chain.restored is not None:
                self._write(Lift(previous=chain.last, receipt=receipt))
            self._keep_receipt(receipt)

    def mark_restored(self) -> None:
        """Record that this ledger was put back from a backup: from now on, all is spent."""
        with self._transaction():
            chain = self._caught_up()
            self._write(Restore(previous=chain.last, salt=secrets.token_hex(32)))

    def require_lifted(self) -> None:
        """Raise ``LedgerError`` if the ledger was put back and no receipt has answered that."""
        with self._transaction():
            require_lifted(self._caught_up())

    def head(self) -> SignedHead:
        """Where the ledger ends now."""
        with self._transaction():
            self._caught_up()
            return self._head()

    def reserve(self, charge: Charge) -> Reservation:
        """Charge one round before its data is read.

        Cohorts that cannot pay are left out of the reservation. Raises ``BudgetExceededError``
        with requested, remaining and difference when none can, and ``LedgerError`` when the round
        was answered before for another request, or the ledger was put back from a backup.
        """
        with self._transaction():
            chain = self._caught_up()
            require_lifted(chain)
            released = chain.released.get(charge.round_key)
            if released is not None:
                return self._again(released, charge)
            price = charge.cost(self.header.order)
            granted = charge.model_copy(update={"cohorts": self._paying(charge, price)})
            opening = Opening.of(*self._personal())
            entry = Reserve(
                previous=chain.last,
                charge=granted,
                cost=price,
                code_version=__version__,
                personal=opening.commitment,
            )
            self._keep_opening(chain.length, opening)
            self._write(entry)
            return Reservation(granted, chain.length)

    def start(self, reservation: Reservation) -> SignedHead:
        """Record that data is about to be read; the head, which covers the charge."""
        with self._transaction():
            chain = self._standing(reservation)
            return self._write(Start(previous=chain.last, of=reservation.entry))

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        """Put ``payload`` into the outbox, before it is sent."""
        checksum = hashlib.sha256(payload).hexdigest()
        with self._transaction():
            chain = self._standing(reservation)
            entry = Commit(
                previous=chain.last,
                kind=RELEASE_KIND[reservation.charge.role],
                of=reservation.entry,
                payload_digest=checksum,
            )
            self._write(entry)
            self._keep_payload(reservation.charge.round_key, chain.length, payload)

    def spent(self) -> SpendByGroup:
        """What each (role, cohort) has spent over all models and runs."""
        with self._transaction():
            return self._caught_up().totals.spend()

    def remaining(self, role: Role, cohort: str) -> int:
        """Micro-units of RDP at the ledger's order that a cohort has left."""
        with self._transaction():
            return self._caught_up().remaining(role, cohort)

    def has_charges(self, run: str, plan: str) -> bool:
        """Whether any round of ``run`` was charged under the plan with this digest."""
        with self._transaction():
            return (run, plan) in self._caught_up().charged_plans

    def rounds_released(self, run: str, role: Role = "train") -> set[int]:
        """The rounds of ``run`` of which something made of ``role``'s records was committed."""
        with self._transaction():
            keys = list(self._caught_up().released)
        return {number for name, number, read in keys if (name, read) == (run, role)}

    def last_reply(self, run: str, role: Role = "train") -> str | None:
        """SHA-256 of the bytes that were committed last in ``run``; ``None`` before the first."""
        with self._transaction():
            released = self._caught_up().released.items()
            of_run = [one for (name, _, read), one in released if (name, read) == (run, role)]
        return max(of_run, key=lambda one: one.committed).payload_digest if of_run else None

    def export(self) -> LedgerExport:
        """Everything an auditor needs to recompute the spend."""
        with self._transaction():
            self._caught_up()
            entries = tuple(entry for entry, _ in self._entries(0))
            return LedgerExport(header=self.header, entries=entries, head=self._head())

    def _caught_up(self) -> Chain:
        """The chain with the entries that this or another process has added since, verified."""
        for entry, digest in self._entries(self._chain.length):
            self._chain.extend(entry, digest)
        self._chain.check_head(self._head())
        return self._chain

    def _standing(self, reservation: Reservation) -> Chain:
        """The chain, in which the reservation's charge must stand as it says."""
        chain = self._caught_up()
        if chain.charge(reservation.entry) != reservation.charge:
            raise LedgerError(f"entry {reservation.entry} is not what this round was charged for")
        return chain

    def _again(self, released: Released, charge: Charge) -> Reservation:
        """What was committed before, to be sent once more."""
        if released.request != charge.request:
            raise LedgerError(
                f"round {charge.round} of run {charge.run} was answered before, for another "
                "request; a round is released once"
            )
        payload = self._payload(charge.round_key, released.committed)
        if payload is None:
            raise LedgerError(
                f"round {charge.round} of run {charge.run} was answered and the run went on; "
                "its bytes are no longer kept"
            )
        if hashlib.sha256(payload).hexdigest() != released.payload_digest:
            raise LedgerError(f"the outbox does not hold what entry {released.committed} released")
        return Reservation(charge, released.reserved, payload)

    def _paying(self, charge: Charge, price: int | None) -> tuple[str, ...]:
        """The cohorts of ``charge`` that can pay; all of them where nothing is enforced."""
        if not self.header.enforced:
            return charge.cohorts
        left = {name: self._chain.remaining(charge.role, name) for name in charge.cohorts}
        paying = tuple(name for name in charge.cohorts if price is not None and price <= left[name])
        if paying:
            return paying
        most = max(left.values())
        requested = INFINITE if price is None else price
        raise BudgetExceededError(
            f"round {charge.round} of run {charge.run} asks for "
            f"{'infinitely many' if price is None else price} micro-RDP at order "
            f"{self.header.order:g}; {most} remain of {self.header.limit}, {requested - most} are "
            "missing",
            requested=requested,
            remaining=most,
        )

    def _write(self, entry: Entry) -> SignedHead:
        """Check, keep and sign one more entry."""
        self._chain.check(entry)
        length = self._chain.length + 1
        blank = SignedHead(ledger=self.header.ledger, length=length, digest=entry.digest)
        head = blank.signed(self._key)
        self._append(entry, head)
        self._chain.trusted = head
        return head


def new_ledger(budget: Budget, key: SigningKey, enforced: bool) -> tuple[LedgerHeader, SignedHead]:
    """The header of a new ledger, and the head of one without entries."""
    header = LedgerHeader(
        ledger=secrets.token_hex(16),
        key=key.public,
        budget=budget,
        order=budget.order,
        limit=budget.limit,
        enforced=enforced,
    )
    head = SignedHead(ledger=header.ledger, length=0, digest=header.digest)
    return header, head.signed(key)
