"""RDP over orders, held against Google's dp-accounting."""

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_shared.privacy.accounting import step_rdp
from cloister_shared.privacy.orders import ORDERS
from cloister_shared.privacy.renyi import sampled_gaussian_rdp

NOISE = st.floats(0.3, 50)
RATE = st.floats(1e-3, 1)


def google_rdp(noise: float, rate: float, orders: tuple[float, ...]) -> list[float]:
    accountant = RdpAccountant(orders=orders)
    accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)))
    return list(accountant.rdp)


@settings(deadline=None, max_examples=40)
@given(noise=NOISE, rate=RATE)
def test_every_order_is_what_google_computes(noise: float, rate: float) -> None:
    orders = (2, 3, 17, 64, 256)
    ours = sampled_gaussian_rdp(noise, rate, orders)
    np.testing.assert_allclose(ours, google_rdp(noise, rate, orders), rtol=1e-6, atol=1e-13)


@given(noise=NOISE, rate=RATE)
def test_an_order_costs_the_same_alone_and_among_others(noise: float, rate: float) -> None:
    together = sampled_gaussian_rdp(noise, rate, ORDERS)
    alone = [step_rdp(noise, rate, order) for order in ORDERS]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@given(noise=NOISE, rate=st.floats(1e-6, 0.99), more=st.floats(1.001, 3))
def test_rdp_rises_with_the_rate_and_falls_with_the_noise(
    noise: float, rate: float, more: float
) -> None:
    here = sampled_gaussian_rdp(noise, rate, ORDERS)
    assert (sampled_gaussian_rdp(noise * more, rate, ORDERS) < here).all()
    assert (sampled_gaussian_rdp(noise, min(1.0, rate * more), ORDERS) > here).all()


def test_a_tiny_price_keeps_its_digits() -> None:
    """The leading term of log(1 + q² (exp(1/σ²) - 1)): the binomial sum itself would round to 1."""
    assert sampled_gaussian_rdp(10.0, 1e-9, (2,))[0] == pytest.approx(1e-18 * np.expm1(0.01))


@pytest.mark.parametrize("order", [1.5, 2.5, 10.1])
def test_an_order_between_whole_ones_is_priced_too(order: float) -> None:
    below, above = (
        step_rdp(2.0, 0.1, int(order) if order > 2 else 1.0001),
        step_rdp(2.0, 0.1, int(order) + 1),
    )
    assert below <= step_rdp(2.0, 0.1, order) <= above
