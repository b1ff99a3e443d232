"""ε by privacy loss distributions: never below the truth, hardly above Google's."""

import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from cloister_shared.privacy import SampledGaussian, epsilon
from cloister_shared.privacy.pld import (
    FINEST_INTERVAL,
    TAIL_SHARE,
    loss_interval,
    pld_epsilon,
    privacy_profile,
)

DELTA = 1e-6
STEPS = st.dictionaries(
    st.tuples(st.sampled_from([0.8, 1.5, 6.0]), st.sampled_from([0.01, 0.2, 1.0])),
    st.integers(1, 60),
    min_size=1,
    max_size=3,
)


def google_epsilon(steps: dict[tuple[float, float], int]) -> float:
    accountant = PLDAccountant(value_discretization_interval=FINEST_INTERVAL)
    for (noise, rate), count in steps.items():
        gaussian = dp_event.GaussianDpEvent(noise)
        sampled = gaussian if rate == 1 else dp_event.PoissonSampledDpEvent(rate, gaussian)
        accountant.compose(sampled, count)
    return float(accountant.get_epsilon(DELTA))


@pytest.mark.parametrize(
    "steps",
    [
        {(7.6, 0.1): 300},
        {(1.8, 0.1): 600},
        {(25.0, 1.0): 10},
        {(0.7, 0.002): 300},
        {(1.2, 0.05): 200, (4.0, 1.0): 3, (2.0, 0.3): 40},
    ],
)
def test_the_epsilon_is_googles_on_a_coarser_grid(steps: dict[tuple[float, float], int]) -> None:
    ours, google = pld_epsilon(steps, DELTA), google_epsilon(steps)
    assert google * (1 - 1e-7) <= ours <= google * 1.0005


@settings(deadline=None, max_examples=25)
@given(noise=st.floats(0.3, 100), count=st.integers(1, 300), delta=st.floats(1e-10, 1e-2))
def test_gaussians_are_never_priced_below_their_exact_epsilon(
    noise: float, count: int, delta: float
) -> None:
    """Balle and Wang 2018, theorem 8: the exact δ of a Gaussian at ε."""
    scale = math.sqrt(count) / noise

    def excess(eps: float) -> float:
        upper = norm.cdf(scale / 2 - eps / scale)
        return float(upper - math.exp(eps + norm.logcdf(-scale / 2 - eps / scale)) - delta)

    top = scale**2 / 2 + 10 * scale
    exact = brentq(excess, 0, top) if excess(0) > 0 else 0.0
    ours = pld_epsilon({(noise, 1.0): count}, delta)
    assert exact * (1 - 1e-6) - 1e-9 <= ours <= exact * 1.01 + 0.01


@settings(deadline=None, max_examples=15)
@given(steps=STEPS)
def test_it_is_below_rdp_and_rises_with_every_further_step(
    steps: dict[tuple[float, float], int],
) -> None:
    events = [
        SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=count)
        for (noise, rate), count in steps.items()
    ]
    here = pld_epsilon(steps, DELTA)
    assert here <= epsilon(events, DELTA)
    assert pld_epsilon({key: count + 1 for key, count in steps.items()}, DELTA) > here
    assert pld_epsilon(steps, DELTA / 10) > here


@settings(deadline=None, max_examples=15)
@given(steps=STEPS, data=st.data())
def test_order_and_grouping_of_events_change_nothing(
    steps: dict[tuple[float, float], int], data: st.DataObject
) -> None:
    parts = [
        SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=part)
        for (noise, rate), count in steps.items()
        for part in ([1, count - 1] if count > 1 else [1])
    ]
    shuffled = data.draw(st.permutations(parts))
    assert epsilon(shuffled, DELTA, "pld") == pytest.approx(pld_epsilon(steps, DELTA), rel=1e-9)


def test_fifty_settings_over_thousands_of_steps_stay_below_rdp() -> None:
    steps = {(0.8 + 0.1 * k, 0.005 + 0.002 * k): 200 for k in range(50)}
    ours = pld_epsilon(steps, DELTA)
    events = [
        SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=count)
        for (noise, rate), count in steps.items()
    ]
    assert 0.8 * epsilon(events, DELTA) < ours < epsilon(events, DELTA)


def test_the_grid_follows_the_steps_losses() -> None:
    assert loss_interval({(100.0, 0.001): 10}) == FINEST_INTERVAL
    assert loss_interval({(1.0, 1.0): 10}) == pytest.approx(1 / 40)


def test_tiny_deltas_have_a_price() -> None:
    assert pld_epsilon({(1.0, 0.1): 100}, 1e-12) > pld_epsilon({(1.0, 0.1): 100}, 1e-9)


@pytest.mark.parametrize("noise", [0.01, 0.02])
def test_next_to_no_noise_costs_nearly_its_rdp(noise: float) -> None:
    """Losses beyond e^709, which no float holds."""
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=0.01, steps=2)
    assert 0.5 * epsilon([event], DELTA) < pld_epsilon({(noise, 0.01): 2}, DELTA)
    assert pld_epsilon({(noise, 0.01): 2}, DELTA) < epsilon([event], DELTA)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_the_profile_of_a_gaussian_is_its_exact_one(scale: float) -> None:
    epsilons, deltas = privacy_profile({(2 / scale, 1.0): 4}, 1e-12)
    exact = norm.cdf(scale / 2 - epsilons / scale) - np.exp(
        epsilons + norm.logcdf(-scale / 2 - epsilons / scale)
    )
    assert np.all(np.diff(epsilons) > 0)
    assert np.all(deltas >= exact - 1e-12)
    assert np.all(deltas <= exact + 1e-4)


@pytest.mark.parametrize("steps", [{(2.0, 0.1): 300}, {(0.7, 0.002): 30, (4.0, 1.0): 3}])
def test_the_profile_and_the_epsilon_tell_the_same(steps: dict[tuple[float, float], int]) -> None:
    epsilons, deltas = privacy_profile(steps, DELTA * TAIL_SHARE)
    told = pld_epsilon(steps, DELTA)
    assert deltas[epsilons > told].max() <= DELTA
    assert deltas[epsilons < told].min() > DELTA
