"""What still fits into a ledger's limit: rounds of one mechanism, or a whole plan."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from cloister_shared.frozen import Frozen
from cloister_shared.plan import Plan
from cloister_shared.privacy.accounting import cost, rounds_that_fit
from cloister_shared.privacy.budget_report import micro_left
from cloister_shared.privacy.events import NonPrivate, SampledGaussian
from cloister_shared.privacy.ledger_format import ROLES, Group, LedgerHeader, Role
from cloister_shared.privacy.ledger_totals import Totals


class Fit(Frozen):
    """How many rounds of what was asked for the learners of a role and cohort can still pay for.

    ``rounds_asked`` is a plan's number of them; ``None`` where one mechanism was asked for.
    """

    role: Role
    cohort: str
    rounds_that_fit: int
    rounds_asked: int | None = None


def mechanism_fits(
    header: LedgerHeader, totals: Totals, groups: Iterable[Group], event: SampledGaussian
) -> tuple[Fit, ...]:
    """How many rounds of ``event`` each group can pay for."""
    return tuple(
        Fit(
            role=role,
            cohort=cohort,
            rounds_that_fit=rounds_that_fit(
                [event], micro_left(header, totals.micro(role, cohort)), header.order
            ),
        )
        for role, cohort in groups
    )


def plan_fits(
    header: LedgerHeader, totals: Totals, groups: Iterable[Group], plan: Plan
) -> tuple[Fit, ...]:
    """How many of a new run's rounds each group can pay for, from the first on.

    Of the evaluation role the plan's metrics are asked for; groups of whom nothing is asked are
    left out.
    """
    rounds = {role: plan.events_by_round(role) for role in ROLES}
    return tuple(
        Fit(
            role=role,
            cohort=cohort,
            rounds_that_fit=_affordable(
                rounds[role], micro_left(header, totals.micro(role, cohort)), header.order
            ),
            rounds_asked=len(rounds[role]),
        )
        for role, cohort in groups
        if rounds[role]
    )


def _affordable(
    rounds: Sequence[Sequence[SampledGaussian | NonPrivate]], remaining: int, order: float
) -> int:
    """How many of ``rounds``, in their order, ``remaining`` micro-units pay for."""
    prices = (cost(events, order) for events in rounds)
    running = accumulate(remaining + 1 if price is None else price for price in prices)
    return sum(total <= remaining for total in running)
