"""What follows from a ledger's entries: what was released, and whether all is in order."""

from collections.abc import Iterable
from dataclasses import dataclass

from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_format import (
    RELEASE_KIND,
    Balance,
    Charge,
    Commit,
    Entry,
    LedgerExport,
    LedgerHeader,
    Lift,
    Reserve,
    Restore,
    Role,
    RoundKey,
    Signed,
    SignedHead,
    Start,
)
from cloister_shared.privacy.ledger_totals import SpendByGroup, Totals


@dataclass(frozen=True, slots=True)
class Released:
    """A round that was committed: for which request, its entries, the SHA-256 of its bytes."""

    request: str
    reserved: int
    committed: int
    payload_digest: str


def verify_ledger(export: LedgerExport) -> SpendByGroup:
    """Recompute chain, prices and totals; return the spend, or raise ``LedgerError``."""
    return verified_totals(export).spend()


def verified_totals(export: LedgerExport) -> Totals:
    """Recompute chain, prices and totals, or raise ``LedgerError``."""
    header = export.header
    if (header.order, header.limit) != (header.budget.order, header.budget.limit):
        raise LedgerError("the ledger's order or limit does not follow from its (ε, δ)")
    chain = Chain(header)
    for number, entry in enumerate(export.entries):
        chain.extend(entry, entry.digest)
        if isinstance(entry, Reserve) and entry.cost != entry.charge.cost(header.order):
            raise LedgerError(f"entry {number} is charged {entry.cost}, not its price")
    chain.check_head(export.head)
    for (role, cohort), one in chain.totals.spend().items():
        if header.enforced and (one.micro is None or one.micro > header.limit):
            raise LedgerError(f"role {role}, cohort {cohort}: {one.micro} spent of {header.limit}")
    return chain.totals


def latest_totals(
    header: LedgerHeader,
    balance: Balance | None,
    entries: Iterable[tuple[Entry, str]],
    head: SignedHead,
) -> Totals:
    """The totals of a ledger of which only what follows a signed ``balance`` is read.

    ``entries`` come with their digests. Raises ``LedgerError`` unless they lead from the balance to
    the head, both of them signed. Earlier entries may have been altered since: who releases
    anything verifies them all.
    """
    length, last = 0, header.digest
    if balance is not None:
        if balance.ledger != header.ledger or not balance.is_signed_by(header.key):
            raise LedgerError("the ledger's balance is not signed with the ledger's key")
        length, last = balance.length, balance.digest
    totals = Totals(header.limit, balance)
    for entry, digest in entries:
        _check_link(entry, length, last)
        totals.add(entry)
        length, last = length + 1, digest
    _check_end(head, header, length, last)
    _check_signature(head, header)
    return totals


class Chain:
    """A verified prefix of a ledger's entries and what follows from it, extended one by one."""

    def __init__(self, header: LedgerHeader) -> None:
        self.length = 0
        self.last = header.digest
        """Digest of the last entry, of the header before the first."""
        self.released: dict[RoundKey, Released] = {}
        self.totals = Totals(header.limit)
        self.charged_plans: set[tuple[str, str]] = set()
        self.trusted: SignedHead | None = None
        """The head whose signature was checked last, or made here: it is not checked again."""
        self.restored: str | None = None
        """Digest of the RESTORE that stands: everything counts as spent until a LIFT."""
        self._header = header
        self._digests = [header.digest]
        self._reserved: dict[int, Charge] = {}
        self._started: set[int] = set()

    def check(self, entry: Entry) -> None:
        """Raise ``LedgerError`` unless ``entry`` may come next: its place, its stage, its round.

        Each attempt goes RESERVE → START → COMMIT or METRIC; a round is committed once. After a
        RESTORE nothing is charged or released until a LIFT.
        """
        _check_link(entry, self.length, self.last)
        if isinstance(entry, Lift):
            self._check_lift(entry)
        elif self.restored is None:
            self._check_stage(entry)
        elif not isinstance(entry, Restore):
            raise LedgerError(f"entry {self.length}: {entry.kind} while all counts as spent")

    def _check_stage(self, entry: Reserve | Start | Commit | Restore) -> None:
        if isinstance(entry, Restore):
            return
        charge = entry.charge if isinstance(entry, Reserve) else self._reserved.get(entry.of)
        if charge is None:
            raise LedgerError(f"entry {self.length}: {entry.kind} of a charge that is not open")
        if charge.round_key in self.released:
            raise LedgerError(f"entry {self.length}: its round was committed before")
        if isinstance(entry, Reserve):
            return
        released = isinstance(entry, Commit)
        if (entry.of in self._started) != released:
            raise LedgerError(f"entry {self.length}: {entry.kind} out of order")
        if released and entry.kind != RELEASE_KIND[charge.role]:
            raise LedgerError(f"entry {self.length}: {entry.kind} of the role {charge.role}")

    def _check_lift(self, entry: Lift) -> None:
        receipt = entry.receipt
        if self.restored is None or receipt.nonce != self.restored:
            raise LedgerError(f"entry {self.length}: LIFT of a RESTORE that does not stand")
        if not (receipt.is_authentic and self.holds(receipt)):
            raise LedgerError(f"entry {self.length}: LIFT by a receipt over another ledger")

    def holds(self, seen: Signed) -> bool:
        """Whether the ledger ended where ``seen`` says, at some time."""
        there = seen.ledger == self._header.ledger and seen.length <= self.length
        return there and self._digests[seen.length] == seen.digest

    def check_head(self, head: SignedHead) -> None:
        """Raise ``LedgerError`` unless the chain ends where its signed head says."""
        _check_end(head, self._header, self.length, self.last)
        if head != self.trusted:
            _check_signature(head, self._header)
        self.trusted = head

    def extend(self, entry: Entry, digest: str) -> None:
        """Check one more entry, whose digest was computed from its text; add it to the totals."""
        self.check(entry)
        self.totals.add(entry)
        if isinstance(entry, Reserve):
            self._reserve(entry)
        elif isinstance(entry, Start):
            self._started.add(entry.of)
        elif isinstance(entry, Commit):
            self._release(entry)
        else:
            self.restored = digest if isinstance(entry, Restore) else None
        self.length, self.last = self.length + 1, digest
        self._digests.append(digest)

    def charge(self, reserved: int) -> Charge | None:
        """What entry number ``reserved`` charged, if it is a RESERVE and not committed."""
        return self._reserved.get(reserved)

    def remaining(self, role: Role, cohort: str) -> int:
        """Micro-units of the ledger's limit that a cohort has left."""
        micro = self.totals.micro(role, cohort)
        return 0 if micro is None else max(0, self._header.limit - micro)

    def _reserve(self, entry: Reserve) -> None:
        self._reserved[self.length] = entry.charge
        self.charged_plans.add((entry.charge.run, entry.charge.plan))

    def _release(self, entry: Commit) -> None:
        charge = self._reserved.pop(entry.of)
        self._started.remove(entry.of)
        self.released[charge.round_key] = Released(
            charge.request, entry.of, self.length, entry.payload_digest
        )


def _check_link(entry: Entry, number: int, last: str) -> None:
    if entry.previous != last:
        raise LedgerError(
            f"entry {number} of the ledger does not follow the one before it: one of them was "
            "altered, or some are missing"
        )


def _check_end(head: SignedHead, header: LedgerHeader, length: int, last: str) -> None:
    if (head.ledger, head.length, head.digest) != (header.ledger, length, last):
        raise LedgerError(
            f"the ledger was cut off or altered: its head is signed for {head.length} entries, "
            f"{length} are there"
        )


def _check_signature(head: SignedHead, header: LedgerHeader) -> None:
    if not head.is_signed_by(header.key):
        raise LedgerError("the ledger's head is not signed with the ledger's key")
