"""Google's dp-accounting behind two functions; importing it brings scipy and takes a second."""

from collections.abc import Mapping
from typing import Literal

from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from cloister_shared.privacy.orders import ORDERS

PLD_INTERVAL = 1e-4
"""Width of the discretization of the privacy loss; rounding is pessimistic."""


def composed_epsilon(
    steps: Mapping[tuple[float, float], int],
    delta: float,
    accountant: Literal["rdp", "pld"],
    order: float | None,
) -> float:
    """ε at ``delta`` of so many steps by (noise multiplier, sampling rate)."""
    if accountant == "pld":
        engine = PLDAccountant(value_discretization_interval=PLD_INTERVAL)
    elif accountant == "rdp":
        engine = RdpAccountant(orders=ORDERS if order is None else [order])
    else:
        raise ValueError(f"accountant must be 'rdp' or 'pld', found {accountant!r}")
    for (noise_multiplier, sampling_rate), count in steps.items():
        engine.compose(_event(noise_multiplier, sampling_rate), count)
    return float(engine.get_epsilon(delta))


def rdp_of_step(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """RDP at ``order`` of one step."""
    engine = RdpAccountant(orders=[order])
    engine.compose(_event(noise_multiplier, sampling_rate))
    return float(engine.rdp[0])


def _event(noise_multiplier: float, sampling_rate: float) -> dp_event.DpEvent:
    gaussian = dp_event.GaussianDpEvent(noise_multiplier)
    if sampling_rate == 1:
        return gaussian
    return dp_event.PoissonSampledDpEvent(sampling_rate, gaussian)
