"""What a ledger says, for people: spent and left by role and cohort, and by run."""

import math
from functools import lru_cache

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.ledger_format import LedgerHeader, ModelEvent, Role, RunSpend
from cloister_shared.privacy.ledger_totals import Spend, Totals


class GroupSpend(Frozen):
    """What the learners of one role and cohort have spent; ``None`` stands for infinite.

    ``epsilon_rdp`` is the guarantee, at the ledger's order; ``epsilon_pld`` is tighter and valid
    for plans fixed in advance. Micro-units are 1e-6 RDP at the ledger's order.
    """

    role: Role
    cohort: str
    epsilon_rdp: float | None
    epsilon_pld: float | None
    spent_micro_rdp: int | None
    remaining_micro_rdp: int


class RunBudget(RunSpend):
    """A run's spend, and how many more rounds like its last the cohort can pay for."""

    rounds_that_fit: int


class BudgetReport(Frozen):
    """A ledger's limit, and what is spent of it.

    ``restored``: the ledger was put back from a backup, and all of it counts as spent until the
    coordinator says that nothing is missing.
    """

    epsilon_limit: float
    delta: float
    order: float
    limit_micro_rdp: int
    enforced: bool
    restored: bool
    groups: tuple[GroupSpend, ...]
    runs: tuple[RunBudget, ...]


def report_budget(header: LedgerHeader, totals: Totals) -> BudgetReport:
    """What was spent of a ledger's limit, for people."""
    return BudgetReport(
        epsilon_limit=header.budget.epsilon,
        delta=header.budget.delta,
        order=header.order,
        limit_micro_rdp=header.limit,
        enforced=header.enforced,
        restored=totals.restored,
        groups=tuple(
            _group(header, role, cohort, spend, header.budget.epsilon * totals.restored)
            for (role, cohort), spend in sorted(totals.spend().items())
        ),
        runs=tuple(_run(header, totals, run) for run in totals.runs()),
    )


def _group(header: LedgerHeader, role: Role, cohort: str, spend: Spend, least: float) -> GroupSpend:
    """``least`` is the ε that counts as spent, whatever was charged."""
    rdp, pld = (
        None if one is None else max(least, one)
        for one in _epsilons(spend.events, header.budget.delta, header.order)
    )
    return GroupSpend(
        role=role,
        cohort=cohort,
        epsilon_rdp=rdp,
        epsilon_pld=pld,
        spent_micro_rdp=spend.micro,
        remaining_micro_rdp=micro_left(header, spend.micro),
    )


@lru_cache(maxsize=16)
def _epsilons(
    events: tuple[ModelEvent, ...], delta: float, order: float
) -> tuple[float | None, float | None]:
    """ε by RDP at ``order`` and by PLD; most cohorts are charged the same, and one sum will do."""
    charged = [one.event for one in events]
    return (
        _finite(epsilon(charged, delta, "rdp", order=order)),
        _finite(epsilon(charged, delta, "pld")),
    )


def _run(header: LedgerHeader, totals: Totals, run: RunSpend) -> RunBudget:
    left, price = micro_left(header, totals.micro(run.role, run.cohort)), run.last_micro_rdp
    fit = 0 if price is None else left // price
    return RunBudget(**run.model_dump(), rounds_that_fit=fit)


def micro_left(header: LedgerHeader, spent: int | None) -> int:
    """Micro-units of a ledger's limit that are left after ``spent``; ``None`` is infinite."""
    return 0 if spent is None else max(0, header.limit - spent)


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
