"""Prices of events: RDP at a fixed order for gates, RDP over orders and PLD for reports.

RDP of the sampled Gaussian: Mironov, Talwar, Zhang, "Rényi Differential Privacy of the Sampled
Gaussian Mechanism", 2019, section 3.3; conversion to (ε, δ): Canonne, Kamath, Steinke, 2020,
proposition 12. PLD: Koskela et al. 2020, Doroshenko et al. 2022. All computed by Google's
dp-accounting. The GDP accountant is not offered: it can fall below the true ε.
"""

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from cloister_shared.privacy.events import NonPrivate, SampledGaussian

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
    # Imported where a price is asked for: a process that only serves never asks.
    from cloister_shared.privacy.google import composed_epsilon  # noqa: PLC0415

    return composed_epsilon(merged, delta, accountant, order)


def merge(
    events: Iterable[SampledGaussian | NonPrivate],
) -> Counter[tuple[float, float]] | None:
    """Steps by (noise multiplier, sampling rate); ``None`` if any event is non-private."""
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        if isinstance(event, NonPrivate):
            return None
        if not isinstance(event, SampledGaussian):
            raise TypeError(f"cannot price an event of type {type(event).__name__}")
        steps[event.noise_multiplier, event.sampling_rate] += event.steps
    return steps


def rdp(events: Iterable[SampledGaussian | NonPrivate], order: float) -> float:
    """RDP of all events at ``order``; infinite if any is non-private."""
    merged = merge(events)
    if merged is None:
        return math.inf
    return sum(steps * step_rdp(*key, order) for key, steps in merged.items())


@lru_cache(maxsize=4096)
def step_rdp(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """RDP at ``order`` of one step."""
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
