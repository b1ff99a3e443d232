"""What still fits is what the ledger would grant, round by round."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_shared.errors import BudgetExceededError
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.budget_fit import mechanism_fits, plan_fits
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.ledger_format import Restore
from cloister_shared.privacy.ledger_totals import Totals
from cloister_shared.privacy.mechanism import Mechanism

from .exports import BUDGET, attempt, charge, export_of, header

AUTUMN = ("train", "autumn")
EVENT = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.2, steps=1)


def totals_after(rounds: int) -> Totals:
    totals = Totals(BUDGET.limit)
    steps = [step for number in range(rounds) for step in attempt(charge(number))]
    for entry in export_of(steps).entries:
        totals.add(entry)
    return totals


def plan_of(rounds: int, noise_multiplier: float) -> Plan:
    mechanism = Mechanism(noise_multiplier=noise_multiplier, clip_norm=1.0, sampling_rate=0.2)
    model = ModelPlan(spec=DktSpec(skills=2, hidden=2), rounds=rounds, mechanism=mechanism)
    return Plan(run="next", curriculum="c", models=(model,), declared_sizes={"a": 50})


@settings(deadline=None, max_examples=40)
@given(
    spent=st.integers(0, 60),
    rounds=st.integers(1, 300),
    noise=st.sampled_from([0.0, 0.7, 2.0, 8.0]),
)
def test_a_plan_fits_whole_if_and_only_if_the_budget_lets_it_begin(
    spent: int, rounds: int, noise: float
) -> None:
    totals, plan = totals_after(spent), plan_of(rounds, noise)
    (fit,) = plan_fits(header(), totals, [AUTUMN], plan)
    left = BUDGET.limit - (totals.micro(*AUTUMN) or 0)
    if fit.rounds_that_fit == fit.rounds_asked == rounds:
        BUDGET.require(plan.events_by_round(), left)
        return
    with pytest.raises(BudgetExceededError, match=f"at most {fit.rounds_that_fit} rounds"):
        BUDGET.require(plan.events_by_round(), left)


def test_of_one_mechanism_a_round_more_than_fits_would_exceed_the_limit() -> None:
    totals = totals_after(10)
    (fit,) = mechanism_fits(header(), totals, [AUTUMN], EVENT)
    left = BUDGET.limit - (totals.micro(*AUTUMN) or 0)
    BUDGET.require([[EVENT]] * fit.rounds_that_fit, left)
    with pytest.raises(BudgetExceededError):
        BUDGET.require([[EVENT]] * (fit.rounds_that_fit + 1), left)


def test_nothing_fits_while_a_ledger_that_was_put_back_counts_as_spent() -> None:
    totals = totals_after(1)
    totals.add(Restore(previous="0" * 64, salt="1" * 64))
    (fit,) = mechanism_fits(header(), totals, [("train", "of no charge yet")], EVENT)
    assert fit.rounds_that_fit == 0
