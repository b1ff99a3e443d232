"""The one place where noise meets a sum over learners.

What leaves it lies on a public grid, whoever is in the sum: the low bits of a floating-point sum of
data and noise can tell the data apart (Mironov, "On Significance of the Least Significant Bits for
Differential Privacy", 2012). ADR 0021 has the argument and what it leaves open.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloister_shared.privacy.discrete import discrete_gaussian
from cloister_shared.privacy.noise import NoiseSource, gaussian

NoiseKind = Literal["gaussian", "discrete_gaussian"]

_FINENESS = 2.0**-16
"""Width of the grid in L2 over all coordinates, as a share of the sensitivity."""


def grid_step(sensitivity: float, dimension: int) -> float:
    """The power of two on whose multiples a release of ``dimension`` numbers lies."""
    finest = sensitivity * _FINENESS / math.sqrt(dimension)
    return 2.0 ** math.floor(math.log2(finest))


def noised(
    total: NDArray[np.float64],
    sensitivity: float,
    noise_multiplier: float,
    kind: NoiseKind,
    source: NoiseSource,
) -> NDArray[np.float64]:
    """``total`` (n,) with noise of ``noise_multiplier`` times its sensitivity, on the grid.

    One learner may move ``total`` by ``sensitivity`` in L2. Rounding it to the grid moves each
    coordinate of two neighbours by at most a step more, which the noise covers: so the release
    costs what a Gaussian mechanism of ``noise_multiplier`` costs.
    """
    step = grid_step(sensitivity, max(1, len(total)))
    covered = sensitivity + step * math.sqrt(len(total))
    release = total / step
    np.rint(release, out=release)
    release += _whole_noise(kind, source, noise_multiplier * covered / step, len(total))
    release *= step
    return release


def _whole_noise(
    kind: NoiseKind, source: NoiseSource, deviation: float, count: int
) -> NDArray[np.float64]:
    """``count`` whole numbers of standard ``deviation``, as doubles."""
    if kind == "discrete_gaussian":
        return discrete_gaussian(source, deviation, count).astype(np.float64)
    drawn = gaussian(source, count)
    drawn *= deviation
    return np.rint(drawn, out=drawn)
