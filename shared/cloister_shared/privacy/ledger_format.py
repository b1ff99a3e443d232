"""The ledger's entries, their hash chain, the export, and a verifier that needs nothing else.

RESERVE is written before data is read and is the charge; START and COMMIT say how far it got and
never give anything back.
"""

from collections import Counter, defaultdict
from typing import Literal

from pydantic import Field, field_validator

from cloister_shared.canonical import digest
from cloister_shared.errors import LedgerError
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import cost, epsilon
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.events import Event, SampledGaussian

Role = Literal["train", "evaluation"]
Group = tuple[Role, str]
"""A role and a cohort: the learners that are charged together."""
RoundKey = tuple[str, int, Role]
"""A run, one of its rounds, and the role it reads: what is released once."""
_AFTER = {"RESERVE": None, "START": "RESERVE", "COMMIT": "START"}
"""What each kind of entry follows within its attempt."""


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

    @field_validator("cohorts")
    @classmethod
    def _check_cohorts(cls, cohorts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(cohorts)) < len(cohorts):
            raise ValueError("each cohort stands once in a charge")
        return cohorts

    @property
    def round_key(self) -> RoundKey:
        """What this charge is for."""
        return self.run, self.round, self.role

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
    payload_digest: str | None = None
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

    @property
    def digest(self) -> str:
        """SHA-256 of the header: what the first entry follows."""
        return digest(self.model_dump(mode="json"))


class LedgerExport(Frozen):
    """Everything an auditor needs."""

    header: LedgerHeader
    entries: tuple[Entry, ...]
    head: str
    """Digest of the last entry, of the header where there is none."""


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


def verify_ledger(export: LedgerExport) -> SpendByGroup:
    """Recompute chain, prices and totals; return the spend, or raise ``LedgerError``."""
    header = export.header
    if (header.order, header.limit) != (header.budget.order, header.budget.limit):
        raise LedgerError("the ledger's order or limit does not follow from its (ε, δ)")
    chain = Chain(header.digest)
    for entry in export.entries:
        chain.extend(entry)
        if entry.kind == "RESERVE" and entry.cost != entry.charge.cost(header.order):
            raise LedgerError(f"entry {entry.sequence} is charged {entry.cost}, not its price")
    chain.check_head(export.head)
    spend = chain.spend()
    for (role, cohort), one in spend.items():
        if header.enforced and (one.micro is None or one.micro > header.limit):
            raise LedgerError(f"role {role}, cohort {cohort}: {one.micro} spent of {header.limit}")
    return spend


class Chain:
    """A verified prefix of the release chain and what follows from it, extended entry by entry.

    It begins at ``head``, the header's digest.
    """

    def __init__(self, head: str) -> None:
        self.length = 0
        self.head = head
        self.committed: dict[RoundKey, Entry] = {}
        self.attempts: Counter[RoundKey] = Counter()
        self.charged_plans: set[tuple[str, str]] = set()
        self._latest: dict[tuple[RoundKey, int], Entry] = {}
        self._micro: dict[Group, int | None] = {}
        self._steps: dict[Group, Counter[ModelEvent]] = defaultdict(Counter)

    def check(self, entry: Entry) -> None:
        """Raise ``LedgerError`` unless ``entry`` may come next: number, hashes, stage, charge.

        Each attempt goes RESERVE → START → COMMIT under one charge; a round is committed once.
        """
        if entry.sequence != self.length:
            raise LedgerError(f"entry {self.length} is missing from the ledger")
        if entry.previous != self.head or entry.digest != entry.expected_digest():
            raise LedgerError(f"entry {entry.sequence} of the ledger was altered")
        key = entry.charge.round_key
        before = self._latest.get((key, entry.attempt))
        if _AFTER[entry.kind] != (before.kind if before else None):
            raise LedgerError(f"entry {entry.sequence}: {entry.kind} out of order")
        if before is not None and before.charge != entry.charge:
            raise LedgerError(f"entry {entry.sequence} is not what its attempt was charged for")
        if key in self.committed:
            raise LedgerError(f"entry {entry.sequence}: its round was committed before")

    def check_head(self, head: str) -> None:
        """Raise ``LedgerError`` unless the chain ends where it is said to end."""
        if head != self.head:
            raise LedgerError(f"the ledger was cut off or altered after {self.length} entries")

    def extend(self, entry: Entry) -> None:
        """Check one more entry and add it to the totals."""
        self.check(entry)
        key = entry.charge.round_key
        self._latest[key, entry.attempt] = entry
        if entry.kind == "RESERVE":
            self._add(entry)
        elif entry.kind == "COMMIT":
            self.committed[key] = entry
        self.length, self.head = self.length + 1, entry.digest

    def spend(self) -> SpendByGroup:
        """Spend by role and cohort; equal events are merged into one with their steps added."""
        return {
            group: Spend(micro=micro, events=tuple(map(_with_steps, self._steps[group].items())))
            for group, micro in self._micro.items()
        }

    def remaining(self, limit: int, role: Role, cohort: str) -> int:
        """Micro-units of ``limit`` that a cohort has left."""
        micro = self._micro.get((role, cohort), 0)
        return 0 if micro is None else max(0, limit - micro)

    def _add(self, entry: Entry) -> None:
        self.attempts[entry.charge.round_key] += 1
        self.charged_plans.add((entry.charge.run, entry.charge.plan))
        for cohort in entry.charge.cohorts:
            group = (entry.charge.role, cohort)
            before = self._micro.get(group, 0)
            infinite = before is None or entry.cost is None
            self._micro[group] = None if infinite else (before or 0) + (entry.cost or 0)
            for one in entry.charge.events:
                self._steps[group][_single_step(one)] += _steps(one)


def _steps(one: ModelEvent) -> int:
    return one.event.steps if isinstance(one.event, SampledGaussian) else 1


def _single_step(one: ModelEvent) -> ModelEvent:
    return _with_steps((one, 1))


def _with_steps(counted: tuple[ModelEvent, int]) -> ModelEvent:
    one, steps = counted
    if not isinstance(one.event, SampledGaussian):
        return one
    return one.model_copy(update={"event": one.event.model_copy(update={"steps": steps})})
