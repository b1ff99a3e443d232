"""Prices of events, held against closed forms and an independent literal implementation."""

import math
from decimal import Decimal, getcontext

import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cloister_shared.privacy import NonPrivate, SampledGaussian, epsilon, rounds_that_fit
from cloister_shared.privacy.accounting import MICRO, cost, merge, rdp, step_rdp
from cloister_shared.privacy.events import MAX_NOISE, MIN_NOISE

getcontext().prec = 60

EVENTS = st.builds(
    SampledGaussian,
    noise_multiplier=st.sampled_from([0.7, 1.0, 2.5, 8.0]),
    sampling_rate=st.sampled_from([0.01, 0.1, 1.0]),
    steps=st.integers(1, 50),
)


def event(noise: float = 1.0, rate: float = 0.1, steps: int = 1) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=steps)


def mironov(noise: float, rate: float, order: int) -> float:
    """Mironov, Talwar, Zhang 2019, section 3.3, equation for whole orders, digit by digit."""
    q, variance = Decimal(rate), Decimal(noise) ** 2
    moment = sum(
        math.comb(order, k)
        * (1 - q) ** (order - k)
        * q**k
        * (Decimal(k * (k - 1)) / (2 * variance)).exp()
        for k in range(order + 1)
    )
    return float(moment.ln() / (order - 1))


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5])
@pytest.mark.parametrize("order", [2, 8, 29, 128])
def test_the_price_of_a_step_is_mironovs_sum(noise: float, rate: float, order: int) -> None:
    assert step_rdp(noise, rate, order) == pytest.approx(mironov(noise, rate, order), rel=1e-9)


@given(noise=st.floats(0.1, 100), order=st.integers(2, 500))
def test_without_sampling_the_price_is_the_gaussians_closed_form(noise: float, order: int) -> None:
    assert step_rdp(noise, 1.0, float(order)) == pytest.approx(order / (2 * noise**2))


def test_composition_is_what_google_composes() -> None:
    google = RdpAccountant()
    google.compose(dp_event.PoissonSampledDpEvent(0.1, dp_event.GaussianDpEvent(1.1)), 300)
    google.compose(dp_event.GaussianDpEvent(9.0), 4)
    ours = [event(1.1, 0.1, 100), event(9.0, 1.0, 4), event(1.1, 0.1, 200)]
    assert epsilon(ours, 1e-6) == pytest.approx(google.get_epsilon(1e-6))


@settings(deadline=None, max_examples=40)
@given(events=st.lists(EVENTS, min_size=1, max_size=4), data=st.data())
def test_order_and_grouping_of_events_change_nothing(
    events: list[SampledGaussian], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events))
    one_by_one = [e.model_copy(update={"steps": 1}) for e in shuffled for _ in range(e.steps)]
    assert merge(one_by_one) == merge(events)
    assert rdp(one_by_one, 8.0) == pytest.approx(rdp(events, 8.0))
    price = epsilon(events, 1e-6, order=8.0)
    assert epsilon(one_by_one, 1e-6, order=8.0) == pytest.approx(price)


@settings(deadline=None, max_examples=40)
@given(events=st.lists(EVENTS, min_size=1, max_size=3), more=EVENTS)
def test_another_event_never_lowers_the_price(
    events: list[SampledGaussian], more: SampledGaussian
) -> None:
    assert epsilon([*events, more], 1e-6, order=8.0) > epsilon(events, 1e-6, order=8.0)
    assert cost([*events, more], 29.0) > cost(events, 29.0)


@settings(deadline=None, max_examples=40)
@given(
    events=st.lists(EVENTS, min_size=1, max_size=2),
    deltas=st.tuples(st.floats(1e-12, 0.1), st.floats(1e-12, 0.1)).map(sorted),
)
def test_epsilon_falls_as_delta_grows(events: list[SampledGaussian], deltas: list[float]) -> None:
    smaller, larger = (epsilon(events, delta, order=8.0) for delta in deltas)
    assert smaller >= larger


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_the_reported_epsilons_are_monotone_too(accountant: str) -> None:
    one, two = [event(1.2, 0.1, 30)], [event(1.2, 0.1, 30), event(4.0, 1.0)]
    assert epsilon(one, 1e-4, accountant) < epsilon(one, 1e-8, accountant)
    assert epsilon(one, 1e-6, accountant) < epsilon(two, 1e-6, accountant)
    assert epsilon(two[::-1], 1e-6, accountant) == pytest.approx(epsilon(two, 1e-6, accountant))


@pytest.mark.parametrize("noise", [0.8, 2.0, 6.0])
def test_both_accountants_stay_above_the_gaussians_true_epsilon(noise: float) -> None:
    """Balle and Wang 2018, theorem 8: the exact δ of the Gaussian at ε."""

    def exact_delta(eps: float) -> float:
        shift = 1 / (2 * noise)
        return norm.cdf(shift - eps * noise) - math.exp(eps) * norm.cdf(-shift - eps * noise)

    one = [event(noise, 1.0)]
    pld, renyi = epsilon(one, 1e-6, "pld"), epsilon(one, 1e-6, "rdp")
    assert exact_delta(pld) <= 1e-6
    assert pld <= renyi
    assert exact_delta(pld * 0.99) > 1e-6


def test_pld_is_tighter_than_rdp_and_no_fixed_order_beats_the_best() -> None:
    run = [event(1.2, 0.05, 500)]
    best = epsilon(run, 1e-6)
    assert epsilon(run, 1e-6, "pld") < best
    assert all(epsilon(run, 1e-6, order=float(order)) >= best - 1e-9 for order in range(2, 40))


def test_a_reset_accountant_would_hide_most_of_the_spend() -> None:
    rounds = [event(1.0, 0.05, 20)] * 50
    assert epsilon(rounds, 1e-5) > 4 * epsilon(rounds[:1], 1e-5)


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_one_non_private_event_makes_the_price_infinite(accountant: str) -> None:
    assert epsilon([event(), NonPrivate()], 1e-6, accountant) == math.inf
    assert rdp([event(), NonPrivate()], 8.0) == math.inf
    assert cost([NonPrivate()], 8.0) is None


def test_nothing_costs_nothing() -> None:
    assert epsilon([], 1e-6) == 0
    assert cost([], 8.0) == 0


@pytest.mark.parametrize("delta", [0, 1, -1e-6, 1.5, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta must lie strictly between 0 and 1"):
        epsilon([event()], delta)


@pytest.mark.parametrize("accountant", ["gdp", "prv", ""])
def test_no_other_accountant_is_offered(accountant: str) -> None:
    with pytest.raises(ValueError, match="accountant must be"):
        epsilon([event()], 1e-6, accountant)


@pytest.mark.parametrize("unknown", [object(), {"noise_multiplier": 1}, None])
def test_an_unknown_event_is_never_free(unknown: object) -> None:
    with pytest.raises(TypeError, match="cannot price"):
        merge([event(), unknown])
    with pytest.raises(TypeError):
        epsilon([unknown], 1e-6)


@given(
    noise=st.floats(MIN_NOISE, MAX_NOISE),
    rate=st.floats(0, 1, exclude_min=True),
    order=st.sampled_from([2.0, 8.0, 29.0]),
)
def test_every_event_has_a_price_and_none_is_free(noise: float, rate: float, order: float) -> None:
    price = cost([event(noise, rate)], order)
    assert price is not None
    assert price >= 1


@given(EVENTS)
def test_prices_are_rounded_up(one: SampledGaussian) -> None:
    price = cost([one], 29.0)
    assert 0 <= price - rdp([one], 29.0) * MICRO <= 1


def test_rounds_that_fit_is_the_largest_number_that_fits() -> None:
    price = cost([event()], 8.0)
    assert rounds_that_fit([event()], 5 * price, 8.0) == 5
    assert rounds_that_fit([event()], 5 * price - 1, 8.0) == 4
    assert rounds_that_fit([event()], -1, 8.0) == 0
    assert rounds_that_fit([NonPrivate()], 10**18, 8.0) == 0
    with pytest.raises(ValueError, match="without events"):
        rounds_that_fit([], 1, 8.0)
