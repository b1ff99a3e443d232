"""What the baselines under differential privacy share: budget, weights, clip, noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.noise import NoiseSource, gaussian

Floats = NDArray[np.float64]

FEWEST_ANSWERS = 200
"""A learner with fewer answers counts less than one with more, who all count alike: the answers of
short histories say little of themselves, long ones would be clipped anyway."""


@dataclass(frozen=True)
class Allowance:
    """What a baseline may spend on each learner, a ``share`` of ``budget``.

    ``learners`` is their public declared number. ``noise`` gives the randomness.
    """

    budget: Budget
    share: float
    learners: int
    noise: NoiseSource

    def noise_multiplier(self, releases: int) -> float:
        """Standard deviation over sensitivity at which so many releases spend the allowance.

        Raises ``ConfigError`` where no noise would be enough.
        """
        return self.budget.calibrate(1.0, releases, 1, self.share)

    def noised(self, total: Floats, deviation: float) -> Floats:
        """``total`` (n,) with independent Gaussian noise of standard ``deviation``."""
        return total + deviation * gaussian(self.noise, len(total))


def answer_weights(lengths: NDArray[np.int64]) -> Floats:
    """(learners,) weight of each of a learner's answers: 1 / max(their number, 200)."""
    return 1 / np.maximum(lengths, FEWEST_ANSWERS)


def clip_factors(squared_norms: Floats, clip_norm: float) -> Floats:
    """(learners,) what brings L2 norms down to ``clip_norm``; 1 where they are below."""
    return np.minimum(1, clip_norm / np.sqrt(np.maximum(squared_norms, 1e-300)))
