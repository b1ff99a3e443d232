"""A node's budget: the whole plan is priced first, by cohort, beside all other runs."""

import pytest

from cloister_client.ledger import Ledger, MemoryLedger
from cloister_shared.errors import (
    BudgetExceededError,
)
from cloister_shared.messages import (
    Contribution,
    unpack,
)
from cloister_shared.privacy import Policy
from cloister_shared.privacy.ledger_format import Charge

from .nodes import BUDGET, MECHANISM, kinds, make_node, make_plan, refusal_of, request


def test_the_whole_plan_is_priced_before_its_first_round_and_the_error_says_what_fits():
    node = make_node()
    with pytest.raises(BudgetExceededError, match=r"at most (\d+) rounds would fit") as caught:
        node.check_plan(make_plan(rounds=1000))
    fitting = int(str(caught.value).rsplit("at most ", 1)[1].split()[0])
    node.check_plan(make_plan(rounds=fitting))
    with pytest.raises(BudgetExceededError):
        node.check_plan(make_plan(rounds=fitting + 1))
    assert refusal_of(node.answer_train(request(make_plan(rounds=fitting + 1)))) == "budget"
    assert not kinds(node.ledger)


def test_what_other_runs_spent_counts():
    node = make_node()
    _spend(node.ledger, "all")
    assert refusal_of(node.answer_train(request(make_plan()))) == "budget"
    assert not node.source.seen


def test_learners_of_a_cohort_without_budget_are_not_read():
    node = make_node(cohorts=("2024", "2025"))
    _spend(node.ledger, "2024")
    unpack(node.answer_train(request(make_plan())), Contribution)
    assert set(node.source.cohorts) == {("2025",)}


def test_a_run_that_began_goes_on_until_its_cohorts_cannot_pay():
    node, plan = make_node(), make_plan()
    unpack(node.answer_train(request(plan, 1)), Contribution)
    _spend(node.ledger, "all")
    assert refusal_of(node.answer_train(request(plan, 2))) == "budget"


def test_a_ledger_of_a_simulation_without_a_guarantee_refuses_no_budget():
    node = make_node(
        policy=Policy(budget=BUDGET, allow_without_guarantee=True),
        ledger=MemoryLedger(BUDGET, enforced=False),
    )
    plan = make_plan(mechanism={**MECHANISM, "noise_multiplier": 0}, rounds=10_000)
    unpack(node.answer_train(request(plan)), Contribution)
    assert node.ledger.spent()["train", "all"].micro is None


def _spend(ledger: Ledger, cohort: str) -> None:
    """Charge another run's rounds to a cohort until it cannot pay for one more."""
    charge = Charge(
        run="spring",
        round=0,
        plan="",
        request="",
        cohorts=(cohort,),
        events=make_plan().charge_events(1),
    )
    price = charge.cost(ledger.header.order)
    for number in range(ledger.remaining("train", cohort) // price):
        ledger.reserve(charge.model_copy(update={"round": number}))
