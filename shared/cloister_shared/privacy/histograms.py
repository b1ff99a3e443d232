"""Histograms of what a model said about learners: each adds a vector of L2 norm 1, or 0.

A learner's vector is their predictions by cell, divided by the norm of these counts. So every
learner weighs about alike, however much they answered. Cells are fixed by the plan alone. What a
noisy sum of them tells is in :mod:`cloister_shared.privacy.figures`.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["binary", "rank"]
"""What a model kind's scores are: probabilities of 0/1 labels, or 1-based ranks of true items."""
Floats = NDArray[np.float64]

BEST_RANKS = 10
"""Ranks with a cell of their own; all others share one."""


def cells(outcome: Outcome, bins: int) -> int:
    """Length of a histogram: ``bins`` for each label, or one for each of the best ranks and one."""
    return 2 * bins if outcome == "binary" else BEST_RANKS + 1


def learner_histogram(
    outcome: Outcome, targets: NDArray[Any], outputs: NDArray[Any], bins: int
) -> Floats:
    """(cells,) one learner's predictions by cell, of L2 norm 1; zeros if there are none.

    A probability that is no number, as hostile weights may give, counts as 0.
    """
    if outcome == "binary":
        width = np.nan_to_num(np.clip(outputs, 0, 1), nan=0.0) * bins
        positions = np.minimum(width.astype(np.int64), bins - 1) + bins * (targets > 0.5)
    else:
        positions = np.minimum(np.ceil(outputs), BEST_RANKS + 1).astype(np.int64) - 1
    counts = np.bincount(positions, minlength=cells(outcome, bins)).astype(np.float64)
    norm = float(np.linalg.norm(counts))
    return counts / norm if norm else counts
