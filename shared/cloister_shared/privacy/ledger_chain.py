"""What follows from a ledger's entries: the spend, what was released, whether all is in order."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cloister_shared.errors import LedgerError
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.ledger_format import (
    Charge,
    Commit,
    Entry,
    Group,
    LedgerExport,
    LedgerHeader,
    ModelEvent,
    Reserve,
    Role,
    RoundKey,
    SignedHead,
    Start,
)


class Spend(Frozen):
    """What the learners of one cohort and role have spent."""

    micro: int | None
    """Micro-units of RDP at the ledger's order; ``None`` is infinite."""
    events: tuple[ModelEvent, ...] = ()

    def epsilon(
        self,
        delta: float,
        accountant: Literal["rdp", "pld"] = "pld",
        *,
        order: float | None = None,
    ) -> float:
        """The ε that these events add up to, over all models."""
        return epsilon([one.event for one in self.events], delta, accountant, order=order)


SpendByGroup = dict[Group, Spend]


@dataclass(frozen=True, slots=True)
class Released:
    """A round that was committed: its charge, the entries of it, the SHA-256 of its bytes."""

    charge: Charge
    reserved: int
    committed: int
    payload_digest: str


def verify_ledger(export: LedgerExport) -> SpendByGroup:
    """Recompute chain, prices and totals; return the spend, or raise ``LedgerError``."""
    header = export.header
    if (header.order, header.limit) != (header.budget.order, header.budget.limit):
        raise LedgerError("the ledger's order or limit does not follow from its (ε, δ)")
    chain = Chain(header)
    for number, entry in enumerate(export.entries):
        chain.extend(entry)
        if isinstance(entry, Reserve) and entry.cost != entry.charge.cost(header.order):
            raise LedgerError(f"entry {number} is charged {entry.cost}, not its price")
    chain.check_head(export.head)
    spend = chain.spend()
    for (role, cohort), one in spend.items():
        if header.enforced and (one.micro is None or one.micro > header.limit):
            raise LedgerError(f"role {role}, cohort {cohort}: {one.micro} spent of {header.limit}")
    return spend


class Chain:
    """A verified prefix of a ledger's entries and what follows from it, extended one by one."""

    def __init__(self, header: LedgerHeader) -> None:
        self.length = 0
        self.last = header.digest
        """Digest of the last entry, of the header before the first."""
        self.released: dict[RoundKey, Released] = {}
        self.charged_plans: set[tuple[str, str]] = set()
        self.trusted: SignedHead | None = None
        """The head whose signature was checked last, or made here: it is not checked again."""
        self._header = header
        self._reserved: dict[int, Charge] = {}
        self._started: set[int] = set()
        self._micro: dict[Group, int | None] = {}
        self._events: dict[Group, Counter[tuple[ModelEvent, ...]]] = defaultdict(Counter)

    def check(self, entry: Entry) -> None:
        """Raise ``LedgerError`` unless ``entry`` may come next: its place, its stage, its round.

        Each attempt goes RESERVE → START → COMMIT; a round is committed once.
        """
        if entry.previous != self.last:
            raise LedgerError(
                f"entry {self.length} of the ledger does not follow the one before it: "
                "one of them was altered, or some are missing"
            )
        charge = entry.charge if isinstance(entry, Reserve) else self._reserved.get(entry.of)
        if charge is None:
            raise LedgerError(f"entry {self.length}: {entry.kind} of something never reserved")
        if charge.round_key in self.released:
            raise LedgerError(f"entry {self.length}: its round was committed before")
        if not isinstance(entry, Reserve) and (entry.of in self._started) != (
            entry.kind == "COMMIT"
        ):
            raise LedgerError(f"entry {self.length}: {entry.kind} out of order")

    def check_head(self, head: SignedHead) -> None:
        """Raise ``LedgerError`` unless the chain ends where its signed head says."""
        header = self._header
        if (head.ledger, head.length, head.digest) != (header.ledger, self.length, self.last):
            raise LedgerError(
                f"the ledger was cut off or altered: its head is signed for {head.length} entries, "
                f"{self.length} are there"
            )
        if head != self.trusted and not head.is_signed_by(header.key):
            raise LedgerError("the ledger's head is not signed with the ledger's key")
        self.trusted = head

    def extend(self, entry: Entry) -> None:
        """Check one more entry and add it to the totals."""
        self.check(entry)
        if isinstance(entry, Reserve):
            self._add(entry)
        elif isinstance(entry, Start):
            self._started.add(entry.of)
        else:
            self._release(entry)
        self.length, self.last = self.length + 1, entry.digest

    def charge(self, reserved: int) -> Charge | None:
        """What entry number ``reserved`` charged, if it is a RESERVE."""
        return self._reserved.get(reserved)

    def spend(self) -> SpendByGroup:
        """Spend by role and cohort; equal events are merged into one with their steps added."""
        return {
            group: Spend(micro=micro, events=_merged(self._events[group].items()))
            for group, micro in self._micro.items()
        }

    def remaining(self, role: Role, cohort: str) -> int:
        """Micro-units of the ledger's limit that a cohort has left."""
        micro = self._micro.get((role, cohort), 0)
        return 0 if micro is None else max(0, self._header.limit - micro)

    def _add(self, entry: Reserve) -> None:
        charge = entry.charge
        self._reserved[self.length] = charge
        self.charged_plans.add((charge.run, charge.plan))
        for cohort in charge.cohorts:
            group = (charge.role, cohort)
            before = self._micro.get(group, 0)
            infinite = before is None or entry.cost is None
            self._micro[group] = None if infinite else (before or 0) + (entry.cost or 0)
            self._events[group][charge.events] += 1

    def _release(self, entry: Commit) -> None:
        charge = self._reserved[entry.of]
        self.released[charge.round_key] = Released(
            charge, entry.of, self.length, entry.payload_digest
        )


def _merged(counted: Iterable[tuple[tuple[ModelEvent, ...], int]]) -> tuple[ModelEvent, ...]:
    """Each event once, with the steps of all the times that it happened."""
    steps: Counter[ModelEvent] = Counter()
    for events, times in counted:
        for one in events:
            if isinstance(one.event, SampledGaussian):
                steps[_with_steps(one, 1)] += times * one.event.steps
            else:
                steps[one] = 1
    return tuple(_with_steps(one, count) for one, count in steps.items())


def _with_steps(one: ModelEvent, steps: int) -> ModelEvent:
    if not isinstance(one.event, SampledGaussian):
        return one
    return one.model_copy(update={"event": one.event.model_copy(update={"steps": steps})})
