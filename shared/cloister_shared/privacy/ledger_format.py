"""The ledger's entries, their hash chain, the export, and a verifier that needs nothing else.

RESERVE is written before data is read and is the charge; START and COMMIT say how far it got and
never give anything back.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from cloister_shared.canonical import digest
from cloister_shared.errors import LedgerError
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import cost, epsilon
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.events import Event

GENESIS = "0" * 64
Role = Literal["train", "evaluation"]


class ModelEvent(Frozen):
    """An event and the model kind (or metric) it was for."""

    model: str = Field(min_length=1)
    event: Event


class Charge(Frozen):
    """What one release of one round costs every eligible learner of its cohorts."""

    run: str = Field(min_length=1)
    round: int = Field(ge=0)
    plan: str
    request: str
    role: Role = "train"
    cohorts: tuple[str, ...] = Field(min_length=1)
    events: tuple[ModelEvent, ...] = Field(min_length=1)

    def cost(self, order: float) -> int | None:
        """Micro-units of RDP at ``order``, over all models together; ``None`` if infinite."""
        return cost([one.event for one in self.events], order)


class Entry(Frozen):
    """One line of the release chain.

    ``attempt`` counts the charges of one (run, round): a crash between RESERVE and COMMIT keeps
    the charge, and the next attempt is charged anew. ``cost`` is ``None`` where it is infinite.
    """

    sequence: int = Field(ge=0)
    kind: Literal["RESERVE", "START", "COMMIT"]
    charge: Charge
    attempt: int = Field(ge=0)
    cost: int | None = Field(default=None, ge=0)
    payload: str | None = None
    """SHA-256 of the released bytes, on COMMIT."""
    code_version: str
    previous: str
    digest: str

    @classmethod
    def chained(cls, previous: str, **fields: object) -> "Entry":
        """An entry whose digest covers its fields and the entry before it."""
        unsigned = cls.model_validate({**fields, "previous": previous, "digest": ""})
        return unsigned.model_copy(update={"digest": unsigned.expected_digest()})

    def expected_digest(self) -> str:
        """SHA-256 over everything but the digest itself."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))


class LedgerHeader(Frozen):
    """What is fixed when a ledger is created."""

    format: Literal[1] = 1
    ledger: str
    """Random identifier of this ledger."""
    budget: Budget
    order: float
    limit: int
    enforced: bool = True
    """False in simulations without a guarantee: charges are recorded, not refused."""


class LedgerExport(Frozen):
    """Everything an auditor needs."""

    header: LedgerHeader
    entries: tuple[Entry, ...]


class Spend(Frozen):
    """What the learners of one cohort and role have spent."""

    micro: int | None
    """Micro-units of RDP at the ledger's order; ``None`` is infinite."""
    events: tuple[ModelEvent, ...] = ()

    def epsilon(self, delta: float, accountant: Literal["rdp", "pld"] = "pld") -> float:
        """The ε that these events add up to, over all models."""
        return epsilon([one.event for one in self.events], delta, accountant)


SpendByGroup = dict[tuple[Role, str], Spend]


def verify_ledger(export: LedgerExport) -> SpendByGroup:
    """Recompute chain, costs and order of entries; return the spend, or raise ``LedgerError``."""
    header = export.header
    if (header.order, header.limit) != (header.budget.order, header.budget.limit):
        raise LedgerError("the ledger's order or limit does not follow from its (ε, δ)")
    verify_chain(export.entries)
    for entry in export.entries:
        if entry.kind == "RESERVE" and entry.cost != entry.charge.cost(header.order):
            raise LedgerError(f"entry {entry.sequence} is charged {entry.cost}, not its price")
    spend = total_spend(export.entries)
    for (role, cohort), one in spend.items():
        if header.enforced and (one.micro is None or one.micro > header.limit):
            raise LedgerError(f"role {role}, cohort {cohort}: {one.micro} spent of {header.limit}")
    return spend


def verify_chain(entries: Iterable[Entry]) -> None:
    """Check sequence numbers, hashes, and that each START and COMMIT follows its RESERVE."""
    previous, last_kind = GENESIS, {}
    for position, entry in enumerate(entries):
        if entry.sequence != position:
            raise LedgerError(f"entry {position} is missing from the ledger")
        if entry.previous != previous or entry.digest != entry.expected_digest():
            raise LedgerError(f"entry {position} of the ledger was altered")
        key = (digest(entry.charge.model_dump(mode="json")), entry.attempt)
        expected = {"RESERVE": None, "START": "RESERVE", "COMMIT": "START"}[entry.kind]
        if last_kind.get(key) != expected:
            raise LedgerError(f"entry {position}: {entry.kind} does not follow {expected}")
        last_kind[key] = entry.kind
        previous = entry.digest


def total_spend(entries: Iterable[Entry]) -> SpendByGroup:
    """Sum of all RESERVE entries by role and cohort, over all models and runs."""
    micro: dict[tuple[Role, str], int | None] = defaultdict(int)
    events: dict[tuple[Role, str], list[ModelEvent]] = defaultdict(list)
    for entry in entries:
        if entry.kind != "RESERVE":
            continue
        for cohort in entry.charge.cohorts:
            key = (entry.charge.role, cohort)
            before = micro[key]
            infinite = before is None or entry.cost is None
            micro[key] = None if infinite else (before or 0) + (entry.cost or 0)
            events[key].extend(entry.charge.events)
    return {key: Spend(micro=micro[key], events=tuple(events[key])) for key in micro}
