"""Histograms of what a model said about learners, and the figures that a noisy sum of them gives.

A learner adds a vector of L2 norm 1, or 0 without predictions: their predictions by cell, divided
by the norm of these counts. So every learner weighs about alike, however much they answered. Cells
are fixed by the plan alone. Figures are post-processing of the sum and cost nothing.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloister_shared.frozen import Frozen

Outcome = Literal["binary", "rank"]
"""What a model kind's scores are: probabilities of 0/1 labels, or 1-based ranks of true items."""
Floats = NDArray[np.float64]

BEST_RANKS = 10
"""Ranks with a cell of their own; all others share one."""
CLEAR = 5.0
"""So many deviations of its noise a denominator must have, or its figures are suppressed."""
_REDRAWS = 200


class PrivateFigure(Frozen):
    """A figure from a noisy histogram, and the standard deviation that its noise gives it.

    The deviation tells nothing of how much the figure would vary with other learners.
    """

    value: float
    noise_deviation: float


PrivateFigures = dict[str, PrivateFigure | None]
"""By name; ``None`` where the noise was too much for the figure to mean anything."""


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


def private_figures(histogram: Floats, outcome: Outcome, deviation: float) -> PrivateFigures:
    """AUC, log-loss (nats) and calibration gap, or HR@10 and NDCG@10, of a noisy sum.

    ``deviation`` is the noise's in every cell. The calibration gap is the mean prediction minus the
    share of right answers. Probabilities are taken at the middle of their bin, and half ranks
    (ties) as the next whole one. Noisy counts are used as they are, below zero too: so numerators
    and denominators are right on average.
    """
    if outcome == "binary":
        of, denominators = _binary, np.split(histogram, 2)
    else:
        of, denominators = _ranked, [histogram]
    values = of(histogram)
    if any(
        part.sum() < CLEAR * deviation * np.sqrt(len(part)) or not part.sum() > 0
        for part in denominators
    ):
        return dict.fromkeys(values)
    # Public noise, for an error bar only: more of what the histogram already has.
    more = np.random.default_rng(0).standard_normal((_REDRAWS, len(histogram)))
    redrawn = of(histogram + deviation * more)
    return {
        name: PrivateFigure(value=float(value), noise_deviation=float(np.std(redrawn[name])))
        for name, value in values.items()
    }


def _binary(histograms: Floats) -> dict[str, Floats]:
    """Figures of (…, 2·bins) histograms. AUC by ranks, ties counted half."""
    wrong, right = np.split(histograms, 2, axis=-1)
    bins = wrong.shape[-1]
    middle = (np.arange(bins) + 0.5) / bins
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    all_right, all_wrong = right.sum(axis=-1), wrong.sum(axis=-1)
    total = all_right + all_wrong
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = (right * below).sum(axis=-1) / (all_right * all_wrong)
        loss = -(right @ np.log(middle) + wrong @ np.log1p(-middle)) / total
        gap = ((right + wrong) @ middle - all_right) / total
    return {"auc": np.clip(auc, 0, 1), "log_loss": loss, "calibration_gap": gap}


def _ranked(histograms: Floats) -> dict[str, Floats]:
    """Figures of (…, 11) histograms, as in He et al., WWW 2017, section 4.1."""
    best = histograms[..., :BEST_RANKS]
    gains = 1 / np.log2(np.arange(BEST_RANKS) + 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = histograms.sum(axis=-1)
        hits, gained = best.sum(axis=-1) / total, best @ gains / total
    return {f"hr@{BEST_RANKS}": hits, f"ndcg@{BEST_RANKS}": gained}
