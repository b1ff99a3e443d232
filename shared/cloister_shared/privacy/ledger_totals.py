"""What a ledger's charges add up to, by role and cohort and by run."""

from collections import Counter
from typing import Literal

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.ledger_format import (
    Balance,
    Entry,
    Group,
    GroupBalance,
    Lift,
    ModelEvent,
    Reserve,
    Restore,
    Role,
    RunSpend,
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


class Totals:
    """Sums over charges: those of ``balance``, and those that are added.

    While a RESTORE stands, every group has spent the whole ``limit``, whatever its charges are.
    """

    def __init__(self, limit: int, balance: Balance | None = None) -> None:
        self._limit = limit
        self.restored = False
        """Whether a RESTORE stands."""
        self._micro: dict[Group, int | None] = {}
        self._charges: Counter[tuple[Role, tuple[str, ...], tuple[ModelEvent, ...]]] = Counter()
        """How often cohorts of a role were charged the same together."""
        self._runs: dict[tuple[str, Role, str], tuple[int, int | None, int | None]] = {}
        if balance is not None:
            self._begin(balance)

    def add(self, entry: Entry) -> None:
        """One more entry: a charge is one of every cohort that it names."""
        if isinstance(entry, Restore | Lift):
            self.restored = isinstance(entry, Restore)
        elif isinstance(entry, Reserve):
            self._add_charge(entry)

    def _add_charge(self, entry: Reserve) -> None:
        charge = entry.charge
        self._charges[charge.role, charge.cohorts, charge.events] += 1
        for cohort in charge.cohorts:
            group, run = (charge.role, cohort), (charge.run, charge.role, cohort)
            self._micro[group] = _sum(self._micro.get(group, 0), entry.cost)
            charges, micro, _ = self._runs.get(run, (0, 0, 0))
            self._runs[run] = (charges + 1, _sum(micro, entry.cost), entry.cost)

    def micro(self, role: Role, cohort: str) -> int | None:
        """What a group has spent, in micro-units; ``None`` is infinite."""
        return self._at_least(self._micro.get((role, cohort), 0))

    def spend(self) -> SpendByGroup:
        """Spend by role and cohort; equal events are merged into one with their steps added."""
        return {
            group: Spend(micro=self._at_least(micro), events=self._events(*group))
            for group, micro in self._micro.items()
        }

    def runs(self) -> tuple[RunSpend, ...]:
        """Spend by run, role and cohort, in the order in which they began."""
        return tuple(
            RunSpend(
                run=run,
                role=role,
                cohort=cohort,
                charges=charges,
                spent_micro_rdp=micro,
                last_micro_rdp=last,
            )
            for (run, role, cohort), (charges, micro, last) in self._runs.items()
        )

    def balance(self, ledger: str, length: int, digest: str) -> Balance:
        """These sums, said of a ledger's first ``length`` entries; yet to be signed."""
        groups = tuple(
            GroupBalance(role=role, cohort=cohort, micro=micro, events=self._events(role, cohort))
            for (role, cohort), micro in self._micro.items()
        )
        return Balance(
            ledger=ledger,
            length=length,
            digest=digest,
            groups=groups,
            runs=self.runs(),
            restored=self.restored,
        )

    def _events(self, role: Role, cohort: str) -> tuple[ModelEvent, ...]:
        """What a group was charged: each event once, with the steps of all its times."""
        steps: Counter[ModelEvent] = Counter()
        for (charged, cohorts, events), times in self._charges.items():
            for one in events if charged == role and cohort in cohorts else ():
                count = one.event.steps if isinstance(one.event, SampledGaussian) else 1
                steps[_with_steps(one, 1)] += times * count
        return tuple(_with_steps(one, count) for one, count in steps.items())

    def _at_least(self, micro: int | None) -> int | None:
        """What was charged; the limit while a RESTORE stands: no more was ever granted."""
        return max(self._limit, micro) if self.restored and micro is not None else micro

    def _begin(self, balance: Balance) -> None:
        self.restored = balance.restored
        for one in balance.groups:
            self._micro[one.role, one.cohort] = one.micro
            self._charges[one.role, (one.cohort,), one.events] = 1
        for run in balance.runs:
            spent = (run.charges, run.spent_micro_rdp, run.last_micro_rdp)
            self._runs[run.run, run.role, run.cohort] = spent


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _with_steps(one: ModelEvent, steps: int) -> ModelEvent:
    if not isinstance(one.event, SampledGaussian):
        return one
    return one.model_copy(update={"event": one.event.model_copy(update={"steps": steps})})
