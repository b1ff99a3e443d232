"""Prices of events: RDP at a fixed order for gates, RDP over orders and PLD for reports.

RDP at whole orders and PLD are computed here (``renyi``, ``pld``): no gate waits for a slow sum or
import. Tests hold both against Google's dp-accounting, which prices orders that are no whole
numbers. The GDP accountant is not offered: it can fall below the true ε.
"""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import numpy as np

from cloister_shared.privacy.events import NonPrivate, SampledGaussian
from cloister_shared.privacy.orders import ORDERS
from cloister_shared.privacy.renyi import conversion, sampled_gaussian_rdp

MICRO = 1_000_000
"""Micro-units in one unit of RDP."""


def epsilon(
    events: Iterable[SampledGaussian | NonPrivate],
    delta: float,
    accountant: Literal["rdp", "pld"] = "rdp",
    *,
    order: float | None = None,
) -> float:
    """ε at ``delta`` of all ``events`` together.

    ``"rdp"`` minimizes over orders unless ``order`` is given. ``"pld"`` is tighter and valid for
    plans fixed in advance, not for an adaptive gate. No events cost 0; a non-private event costs
    infinity; an unknown event raises ``TypeError``; δ outside (0, 1) raises ``ValueError``.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, found {delta}")
    merged = merge(events)
    if merged is None:
        return math.inf
    if not merged:
        return 0.0
    if accountant == "rdp":
        return _rdp_epsilon(merged, delta, order)
    if accountant != "pld":
        raise ValueError(f"accountant must be 'rdp' or 'pld', found {accountant!r}")
    # Imported where this price is asked for: it brings scipy, and most processes never ask.
    from cloister_shared.privacy.pld import pld_epsilon  # noqa: PLC0415

    return pld_epsilon(merged, delta)


def merge(
    events: Iterable[SampledGaussian | NonPrivate],
) -> dict[tuple[float, float], int] | None:
    """Steps by (noise multiplier, sampling rate); ``None`` if any event is non-private."""
    steps: dict[tuple[float, float], int] = {}
    for event in events:
        if isinstance(event, NonPrivate):
            return None
        if not isinstance(event, SampledGaussian):
            raise TypeError(f"cannot price an event of type {type(event).__name__}")
        key = event.noise_multiplier, event.sampling_rate
        steps[key] = steps.get(key, 0) + event.steps
    return steps


def rdp(events: Iterable[SampledGaussian | NonPrivate], order: float) -> float:
    """RDP of all events at ``order``; infinite if any is non-private."""
    merged = merge(events)
    if merged is None:
        return math.inf
    return sum(steps * step_rdp(*key, order) for key, steps in merged.items())


@lru_cache(maxsize=4096)
def step_rdp(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """RDP at ``order`` > 1 of one step."""
    if float(order).is_integer():
        return float(sampled_gaussian_rdp(noise_multiplier, sampling_rate, (int(order),))[0])
    from cloister_shared.privacy.google import rdp_of_step  # noqa: PLC0415

    return rdp_of_step(noise_multiplier, sampling_rate, order)


def cost(events: Iterable[SampledGaussian | NonPrivate], order: float) -> int | None:
    """Micro-units of RDP at ``order``, rounded up; ``None`` where the cost is infinite.

    No event is free: where its RDP underflows to 0 it costs one micro-unit.
    """
    charged = list(events)
    amount = rdp(charged, order)
    if math.isinf(amount):
        return None
    return max(math.ceil(amount * MICRO), min(1, len(charged)))


def rounds_that_fit(
    events_per_round: Iterable[SampledGaussian | NonPrivate], remaining: int, order: float
) -> int:
    """How many equal rounds ``remaining`` micro-units pay for; 0 for a non-private round."""
    price = cost(events_per_round, order)
    if price is None:
        return 0
    if price == 0:
        raise ValueError("a round without events fits any number of times")
    return max(0, remaining) // price


def _rdp_epsilon(
    steps: Mapping[tuple[float, float], int], delta: float, order: float | None
) -> float:
    """ε at ``delta`` of the steps by (noise multiplier, sampling rate): the least over orders."""
    if order is not None:
        total = sum(count * step_rdp(*key, order) for key, count in steps.items())
        return max(0.0, total + float(conversion(np.array(order), delta)))
    rdp_by_order = sum(
        (count * sampled_gaussian_rdp(*key, ORDERS) for key, count in steps.items()),
        start=np.zeros(len(ORDERS)),
    )
    return max(0.0, float(np.min(rdp_by_order + conversion(np.array(ORDERS, float), delta))))
