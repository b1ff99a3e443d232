"""What a ledger says, for people: spent and left by role and cohort, and by run."""

import math
from collections import Counter

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.ledger_chain import Spend, verify_ledger
from cloister_shared.privacy.ledger_format import LedgerExport, Role


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


class RunSpend(Frozen):
    """What one run was charged in one role and cohort, over ``charges`` reserved rounds."""

    run: str
    role: Role
    cohort: str
    charges: int
    spent_micro_rdp: int | None


class BudgetReport(Frozen):
    """A verified ledger's limit, and what is spent of it."""

    epsilon_limit: float
    delta: float
    order: float
    limit_micro_rdp: int
    enforced: bool
    groups: tuple[GroupSpend, ...]
    runs: tuple[RunSpend, ...]


def report_budget(export: LedgerExport) -> BudgetReport:
    """Verify a ledger and sum it up; raises ``LedgerError`` if it does not hold together."""
    header = export.header
    return BudgetReport(
        epsilon_limit=header.budget.epsilon,
        delta=header.budget.delta,
        order=header.order,
        limit_micro_rdp=header.limit,
        enforced=header.enforced,
        groups=tuple(
            _group(export, role, cohort, spend)
            for (role, cohort), spend in sorted(verify_ledger(export).items())
        ),
        runs=_runs(export),
    )


def _group(export: LedgerExport, role: Role, cohort: str, spend: Spend) -> GroupSpend:
    header = export.header
    delta = header.budget.delta
    events = [one.event for one in spend.events]
    left = 0 if spend.micro is None else max(0, header.limit - spend.micro)
    return GroupSpend(
        role=role,
        cohort=cohort,
        epsilon_rdp=_finite(epsilon(events, delta, "rdp", order=header.order)),
        epsilon_pld=_finite(epsilon(events, delta, "pld")),
        spent_micro_rdp=spend.micro,
        remaining_micro_rdp=left,
    )


def _runs(export: LedgerExport) -> tuple[RunSpend, ...]:
    """Charges by run, role and cohort, in the order in which they began."""
    charges: Counter[tuple[str, Role, str]] = Counter()
    micro: dict[tuple[str, Role, str], float] = {}
    for entry in export.entries:
        if entry.kind != "RESERVE":
            continue
        for cohort in entry.charge.cohorts:
            key = (entry.charge.run, entry.charge.role, cohort)
            charges[key] += 1
            micro[key] = micro.get(key, 0) + (math.inf if entry.cost is None else entry.cost)
    return tuple(
        RunSpend(
            run=run,
            role=role,
            cohort=cohort,
            charges=charges[run, role, cohort],
            spent_micro_rdp=None if math.isinf(spent) else int(spent),
        )
        for (run, role, cohort), spent in micro.items()
    )


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
