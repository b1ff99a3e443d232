"""What ``bench accounting`` asks, in a module that a fresh process imports in no time."""

import time
from collections.abc import Callable

from cloister_shared.privacy import Budget, SampledGaussian, epsilon, rounds_that_fit
from cloister_shared.privacy.accounting import cost

EVENTS, SETTINGS = 10_000, 50
BUDGET = Budget(epsilon=30, delta=1e-6)


def history() -> list[SampledGaussian]:
    """Events of rounds whose settings change from one to the next."""
    return [
        SampledGaussian(
            noise_multiplier=0.8 + 0.1 * (place % SETTINGS),
            sampling_rate=0.005 + 0.002 * (place % SETTINGS),
            steps=1,
        )
        for place in range(EVENTS)
    ]


def _calibrate(events: list[SampledGaussian]) -> float:
    """The noise of 300 further rounds that may spend what the history leaves."""
    spent = cost(events, BUDGET.order) or 0
    return BUDGET.calibrate(0.1, 1, 300, share=1 - spent / BUDGET.limit)


def _rounds_fit(events: list[SampledGaussian]) -> int:
    """How often the whole history would fit once more, and that a plan of it does fit once."""
    BUDGET.require([[event] for event in events], BUDGET.limit)
    return rounds_that_fit(events, BUDGET.limit, BUDGET.order)


QUESTIONS: dict[str, Callable[[list[SampledGaussian]], float]] = {
    "calibrate": _calibrate,
    "rounds_fit": _rounds_fit,
    "rdp_report": lambda events: epsilon(events, BUDGET.delta, "rdp"),
    "pld": lambda events: epsilon(events, BUDGET.delta, "pld"),
}


def time_once(name: str) -> float:
    """Seconds of one answer in this process."""
    events = history()
    began = time.perf_counter()
    QUESTIONS[name](events)
    return time.perf_counter() - began
