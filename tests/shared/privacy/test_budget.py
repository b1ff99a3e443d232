"""(ε, δ) as a limit at one order: spending all of it never exceeds the guarantee."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister_shared.errors import INFINITE, BudgetExceededError, ConfigError
from cloister_shared.privacy import Budget, NonPrivate, SampledGaussian, epsilon
from cloister_shared.privacy.accounting import MICRO, cost, step_rdp
from cloister_shared.privacy.orders import ORDERS

BUDGETS = st.builds(Budget, epsilon=st.floats(0.1, 20), delta=st.floats(1e-12, 1e-3))


def event(noise: float = 1.0, rate: float = 0.1, steps: int = 1) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=steps)


def converted(micro: float, order: float, delta: float) -> float:
    """Canonne, Kamath, Steinke 2020, proposition 12, written out once more."""
    rho = micro / MICRO
    return rho + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)


@given(BUDGETS)
def test_the_limit_is_exactly_what_epsilon_pays_for(budget: Budget) -> None:
    assert converted(budget.limit, budget.order, budget.delta) <= budget.epsilon + 1e-9
    assert converted(budget.limit + 2, budget.order, budget.delta) > budget.epsilon


@settings(deadline=None, max_examples=20)
@given(budget=BUDGETS, noise=st.floats(0.6, 10), rate=st.sampled_from([0.02, 0.3, 1.0]))
def test_spending_the_whole_limit_keeps_the_promise(
    budget: Budget, noise: float, rate: float
) -> None:
    steps = budget.limit // cost([event(noise, rate)], budget.order)
    if steps:
        run = [event(noise, rate, steps)]
        assert epsilon(run, budget.delta, order=budget.order) <= budget.epsilon + 1e-9
        assert epsilon(run, budget.delta) <= budget.epsilon + 1e-9


@given(BUDGETS)
def test_no_other_whole_order_gives_a_gaussian_much_more(budget: Budget) -> None:
    def allowed(order: float) -> float:
        """ρ of the Gaussian (RDP ρ·order) that ε pays for at ``order``."""
        return (budget.epsilon - converted(0, order, budget.delta)) / order

    best = max(allowed(order) for order in range(2, 2000))
    assert allowed(budget.order) == pytest.approx(best, rel=0.03)


@pytest.mark.parametrize("tiny", [5e-324, 1e-17, 1e-9, 1e-4])
def test_a_tiny_epsilon_allows_little_or_nothing_and_hangs_nowhere(tiny: float) -> None:
    budget = Budget(epsilon=tiny, delta=1e-6)
    assert budget.order == max(ORDERS)
    assert budget.limit == 0
    with pytest.raises(ConfigError, match="too small"):
        budget.calibrate(0.1, 10, 5)


@pytest.mark.parametrize("figure", [0, -1, math.nan, math.inf])
def test_an_epsilon_that_is_none_is_refused(figure: float) -> None:
    with pytest.raises(ValidationError):
        Budget(epsilon=figure, delta=1e-6)


@pytest.mark.parametrize("figure", [0, 1, 1.5, -1e-6, math.nan])
def test_a_delta_that_is_none_is_refused(figure: float) -> None:
    with pytest.raises(ValidationError):
        Budget(epsilon=1, delta=figure)


@settings(deadline=None, max_examples=25)
@given(
    budget=BUDGETS,
    rate=st.sampled_from([0.05, 0.2, 1.0]),
    steps=st.integers(1, 20),
    rounds=st.integers(1, 200),
    share=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_calibrated_noise_fits_and_half_a_percent_less_does_not(
    budget: Budget, rate: float, steps: int, rounds: int, share: float
) -> None:
    noise = budget.calibrate(rate, steps, rounds, share)

    def total(multiplier: float) -> int:
        return rounds * cost([event(multiplier, rate, steps)], budget.order)

    assert total(noise) <= budget.limit * share
    assert noise < 0.06 or total(noise * 0.995) > budget.limit * share - rounds


def test_a_run_that_was_calibrated_has_the_epsilon_that_was_asked_for() -> None:
    budget = Budget(epsilon=4, delta=1e-6)
    noise = budget.calibrate(0.1, 1, 300)
    spent = epsilon([event(noise, 0.1, 300)], 1e-6, order=budget.order)
    assert 3.98 < spent <= 4


def test_a_plan_that_fits_is_let_through() -> None:
    budget = Budget(epsilon=2, delta=1e-6)
    price = cost([event()], budget.order)
    budget.require([[event()]] * 3, 3 * price)
    budget.require([], 0)


def test_a_refusal_tells_requested_remaining_missing_and_the_rounds_that_would_fit() -> None:
    budget = Budget(epsilon=2, delta=1e-6)
    both, one = [event(), event(2.0)], [event(2.0)]
    price_both, price_one = cost(both, budget.order), cost(one, budget.order)
    remaining = 2 * price_both + 3 * price_one + 1
    with pytest.raises(BudgetExceededError) as caught:
        budget.require([both] * 2 + [one] * 5, remaining)
    error = caught.value
    assert error.requested == 2 * price_both + 5 * price_one
    assert error.remaining == remaining
    assert error.difference == 2 * price_one - 1
    for figure in (error.requested, error.remaining, error.difference):
        assert str(figure) in str(error)
    assert "at most 5 rounds would fit" in str(error)
    assert error.exit_code == 5


def test_a_non_private_round_never_fits_and_is_said_to_be_infinite() -> None:
    budget = Budget(epsilon=2, delta=1e-6)
    with pytest.raises(BudgetExceededError, match="infinitely many") as caught:
        budget.require([[event(5.0)], [NonPrivate()]], budget.limit)
    assert caught.value.requested == INFINITE
    assert "at most 1 rounds" in str(caught.value)


def test_both_models_of_a_round_are_priced_together() -> None:
    order = Budget(epsilon=2, delta=1e-6).order
    together = cost([event(1.0), event(3.0, 0.2)], order)
    apart = step_rdp(1.0, 0.1, order) + step_rdp(3.0, 0.2, order)
    assert together == math.ceil(apart * MICRO)
