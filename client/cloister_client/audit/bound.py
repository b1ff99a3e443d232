"""What right guesses prove: the least noise at which so many of them are no surprise.

How often more can be right under a claim is bounded as by Mahloujifar, Melis, Chaudhuri, "Auditing
f-Differential Privacy in One Run", 2024, with the trade-off of the very event that is claimed,
Poisson samples and steps included; ADR 0022 has the argument.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_shared.errors import ConfigError
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.pld import privacy_profile

P = 1e-3
"""How often an honest mechanism may be found guilty, at most."""

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Of the canaries whose coins are guessed: few are guessed better, many show more."""

_HEADROOM = 1.35
"""By how much all guesses being right must exceed the claim, so that half of the noise shows."""

_LEAST_NOISE = 1 / 16
"""No less noise is looked for."""

_TAIL = 1e-12
_MOST_LINES = 2000
_LARGEST_LOSS = 500.0


@dataclass(frozen=True)
class TradeOff:
    """How well neighbours can be told apart: δ at some ε, ``discounts`` are exp(-ε)."""

    deltas: NDArray[np.float64]
    discounts: NDArray[np.float64]

    @classmethod
    def of(cls, event: SampledGaussian) -> "TradeOff":
        """That of an event: its privacy profile, at some of its points."""
        steps = {(event.noise_multiplier, event.sampling_rate): event.steps}
        epsilons, deltas = privacy_profile(steps, _TAIL)
        kept = np.flatnonzero(np.abs(epsilons) <= _LARGEST_LOSS)
        kept = kept[:: 1 + len(kept) // _MOST_LINES]
        return cls(deltas[kept], np.exp(-epsilons[kept]))

    def least(self, probability: float) -> float:
        """What an event must have for one neighbour at least, if it has so much for the other."""
        return max(0.0, float(np.max((probability - self.deltas) * self.discounts)))


def guesses_for(event: SampledGaussian, canaries: int) -> int:
    """How many coins to guess where ``event`` is claimed.

    Fixed before anything is seen. Raises ``ConfigError`` if no number of guesses would do.
    """
    contradicted = TradeOff.of(with_noise(event, event.noise_multiplier / _HEADROOM))
    for share in _SHARES:
        guesses = round(share * canaries)
        if guesses and not is_likely(guesses, guesses, canaries, contradicted):
            return guesses
    raise ConfigError(
        f"{canaries} canaries cannot contradict the claim of so little noise, even if every one "
        "were found out: audit fewer steps, more noise or more canaries"
    )


def refuted_noise(
    correct: int, guesses: int, canaries: int, event: SampledGaussian
) -> float | None:
    """The least noise multiplier, to .1 %, by which so many right guesses are rarer than P.

    At the sampling rate and steps of ``event``. ``None`` if they prove nothing.
    """

    def refutes(strength: float) -> bool:
        trade_off = TradeOff.of(with_noise(event, 1 / strength))
        return not is_likely(correct, guesses, canaries, trade_off)

    low, high = 1e-3, 1 / _LEAST_NOISE
    if not refutes(low):
        return None
    while high / low > 1.001:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if refutes(middle) else (low, middle)
    return 1 / low


def with_noise(event: SampledGaussian, noise_multiplier: float) -> SampledGaussian:
    """The same event with other noise."""
    return event.model_copy(update={"noise_multiplier": noise_multiplier})


def is_likely(correct: int, guesses: int, canaries: int, trade_off: TradeOff) -> bool:
    """Whether ``correct`` or more of ``guesses`` can be right with probability P.

    Of a mechanism whose neighbours are no better told apart than ``trade_off`` says. Assumes that
    they are with probability P and follows what that entails for one less and one less: ``right``
    and ``wrong`` are the expected numbers of right and of wrong guesses, over ``canaries``, where
    at least ``one`` are right. Together they cannot exceed ``guesses`` / ``canaries``.
    """
    right, wrong = P * correct / canaries, P * (guesses - correct) / canaries
    for one in range(correct - 1, -1, -1):
        needed = trade_off.least(right)
        if needed > wrong:
            right += one / (guesses - one) * (needed - wrong)
            wrong = needed
        if right + wrong > guesses / canaries or right >= 1:
            return False
    return True
