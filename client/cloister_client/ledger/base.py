"""Reserve, start, commit: the rules of the ledger, whatever keeps its entries.

The order of events in a round is RESERVE (durable) → START → data is read → COMMIT with the bytes
to send (durable) → send. A crash at any point leaves the charge standing; a round that was
committed is answered again with identical bytes and costs nothing more.
"""

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cloister_shared import __version__
from cloister_shared.errors import INFINITE, BudgetExceededError, LedgerError
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_format import (
    Chain,
    Charge,
    Entry,
    LedgerExport,
    LedgerHeader,
    Role,
    SpendByGroup,
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A charge that stands. ``payload`` is set when the round was already committed: re-send it.

    ``charge.cohorts`` are those that could pay; only their learners may be read.
    """

    charge: Charge
    attempt: int
    payload: bytes | None = None


class Ledger(ABC):
    """One node's ledger. Implementations keep entries and outbox; the rules are here."""

    def __init__(self, header: LedgerHeader) -> None:
        self._header = header
        self._chain = Chain(header.digest)

    @property
    def header(self) -> LedgerHeader:
        """What was fixed when the ledger was created."""
        return self._header

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[None]:
        """Exclusive over all processes; durable when left, undone by an exception."""

    @abstractmethod
    def _entries(self, start: int) -> Sequence[Entry]:
        """Entries from sequence number ``start`` on, as they were kept."""

    @abstractmethod
    def _append(self, entry: Entry, payload: bytes | None) -> None:
        """Keep one more entry and, for a COMMIT, its bytes; called within a transaction."""

    @abstractmethod
    def _payload(self, entry: Entry) -> bytes | None:
        """The bytes of a COMMIT; ``None`` if its run has committed a later round since."""

    def reserve(self, charge: Charge) -> Reservation:
        """Charge one round before its data is read.

        Cohorts that cannot pay are left out of the reservation. Raises ``BudgetExceededError``
        with requested, remaining and difference when none can, and ``LedgerError`` when the round
        was answered before for another request.
        """
        with self._transaction():
            chain = self._caught_up()
            committed = chain.committed.get(charge.round_key)
            if committed is not None:
                return self._released(committed, charge)
            price = charge.cost(self.header.order)
            granted = charge.model_copy(update={"cohorts": self._paying(charge, price)})
            attempt = chain.attempts[charge.round_key]
            self._write("RESERVE", granted, attempt, cost=price)
            return Reservation(granted, attempt)

    def start(self, reservation: Reservation) -> None:
        """Record that data is about to be read for ``reservation``."""
        with self._transaction():
            self._caught_up()
            self._write("START", reservation.charge, reservation.attempt)

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        """Put ``payload`` into the outbox, before it is sent."""
        checksum = hashlib.sha256(payload).hexdigest()
        with self._transaction():
            self._caught_up()
            self._write(
                "COMMIT", reservation.charge, reservation.attempt, payload, payload_digest=checksum
            )

    def spent(self) -> SpendByGroup:
        """What each (role, cohort) has spent over all models and runs."""
        with self._transaction():
            return self._caught_up().spend()

    def remaining(self, role: Role, cohort: str) -> int:
        """Micro-units of RDP at the ledger's order that a cohort has left."""
        with self._transaction():
            return self._caught_up().remaining(self.header.limit, role, cohort)

    def has_charges(self, run: str, plan: str) -> bool:
        """Whether any round of ``run`` was charged under the plan with this digest."""
        with self._transaction():
            return (run, plan) in self._caught_up().charged_plans

    def rounds_released(self, run: str) -> set[int]:
        """The rounds of ``run`` whose contribution was committed."""
        with self._transaction():
            return {key[1] for key in self._caught_up().committed if key[0] == run}

    def export(self) -> LedgerExport:
        """Everything an auditor needs to recompute the spend."""
        with self._transaction():
            head = self._caught_up().head
            return LedgerExport(header=self.header, entries=tuple(self._entries(0)), head=head)

    def _caught_up(self) -> Chain:
        """The chain with the entries that this or another process has added since, verified."""
        for entry in self._entries(self._chain.length):
            self._chain.extend(entry)
        return self._chain

    def _released(self, committed: Entry, charge: Charge) -> Reservation:
        if committed.charge.request != charge.request:
            raise LedgerError(
                f"round {charge.round} of run {charge.run} was answered before, for another "
                "request; a round is released once"
            )
        payload = self._payload(committed)
        if payload is None:
            raise LedgerError(
                f"round {charge.round} of run {charge.run} was answered and the run went on; "
                "its bytes are no longer kept"
            )
        if hashlib.sha256(payload).hexdigest() != committed.payload_digest:
            raise LedgerError(f"the outbox does not hold what entry {committed.sequence} released")
        return Reservation(committed.charge, committed.attempt, payload)

    def _paying(self, charge: Charge, price: int | None) -> tuple[str, ...]:
        """The cohorts of ``charge`` that can pay; all of them where nothing is enforced."""
        if not self.header.enforced:
            return charge.cohorts
        limit = self.header.limit
        left = {name: self._chain.remaining(limit, charge.role, name) for name in charge.cohorts}
        paying = tuple(name for name in charge.cohorts if price is not None and price <= left[name])
        if paying:
            return paying
        most = max(left.values())
        requested = INFINITE if price is None else price
        raise BudgetExceededError(
            f"round {charge.round} of run {charge.run} asks for "
            f"{'infinitely many' if price is None else price} micro-RDP at order "
            f"{self.header.order:g}; {most} remain of {limit}, {requested - most} are missing",
            requested=requested,
            remaining=most,
        )

    def _write(
        self,
        kind: str,
        charge: Charge,
        attempt: int,
        payload: bytes | None = None,
        **fields: object,
    ) -> None:
        entry = Entry.chained(
            previous=self._chain.head,
            sequence=self._chain.length,
            kind=kind,
            charge=charge,
            attempt=attempt,
            code_version=__version__,
            **fields,
        )
        self._chain.check(entry)
        self._append(entry, payload)


def new_header(budget: Budget, enforced: bool) -> LedgerHeader:
    """The header of a new ledger."""
    return LedgerHeader(
        ledger=secrets.token_hex(16),
        budget=budget,
        order=budget.order,
        limit=budget.limit,
        enforced=enforced,
    )
