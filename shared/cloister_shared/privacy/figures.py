"""Figures that a noisy sum of learners' histograms gives: of all, by group, by bin.

Post-processing of the sum, which costs nothing. Noisy counts are used as they are, below zero too:
so numerators and denominators are right on average. A figure of which a denominator is drowned in
noise is suppressed, by a rule that knows the noise and no true count.
"""

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.histograms import BEST_RANKS, Floats, Outcome

CLEAR = 5.0
"""So many deviations of its noise a denominator must have, or its figures are suppressed."""
OTHER = "other"
"""The group of learners who are in none of the plan's."""
ABOVE_ALL = "_above_all"
"""Ends the name of the difference between a group's figure and that of all learners."""
_REDRAWS = 200

_Of = Callable[[Floats, float], dict[str, Floats]]


class PrivateFigure(Frozen):
    """A figure from a noisy histogram, and the standard deviation that its noise gives it.

    The deviation tells nothing of how much the figure would vary with other learners.
    """

    value: float
    noise_deviation: float


PrivateFigures = dict[str, PrivateFigure | None]
"""By name; ``None`` where the noise was too much for the figure to mean anything."""


class Breakdown(Frozen):
    """One model's figures told apart: ``groups`` by name, and the share of right answers by bin.

    ``bins`` has one figure for each equal part of [0, 1] into which predictions fall; of a
    calibrated model it lies within the bin. There are none where scores are ranks.
    """

    groups: dict[str, PrivateFigures] = Field(default_factory=dict)
    bins: tuple[PrivateFigure | None, ...] = ()


def private_figures(histogram: Floats, outcome: Outcome, deviation: float) -> PrivateFigures:
    """Figures of a noisy sum of which every cell has the noise ``deviation``.

    Of probabilities: AUC, log-loss (nats), the calibration gap (mean prediction less the share of
    right answers) and the calibration error, see :func:`_binary`; of ranks HR@10 and NDCG@10.
    Probabilities are taken at the middle of their bin, and half ranks (ties) as the next whole one.
    """
    of = _of(outcome)
    # Redrawn on top of the noise that is there already: their cells have it twice.
    redrawn = of(histogram + _more(deviation, histogram.shape), deviation * np.sqrt(2))
    clear = _is_clear(histogram, outcome, deviation)
    return _figures(of(histogram, deviation), redrawn, clear)


def breakdown(
    histograms: Floats, outcome: Outcome, deviation: float, groups: Sequence[str]
) -> Breakdown:
    """The figures by group and by bin of (groups and the others, cells) noisy sums.

    Each group's figures stand with their differences to those of all learners. A single row of
    ``histograms`` is that of all learners: then there are no groups.
    """
    whole = histograms.sum(axis=0)
    noise = deviation * np.sqrt(len(histograms))
    return Breakdown(
        groups=_by_group(histograms, outcome, deviation, (*groups, OTHER)) if groups else {},
        bins=_by_bin(whole, noise) if outcome == "binary" else (),
    )


def _by_group(
    histograms: Floats, outcome: Outcome, deviation: float, names: Sequence[str]
) -> dict[str, PrivateFigures]:
    """The noise of a group's sum is part of that of all: both are redrawn together."""
    of, spread = _of(outcome), np.sqrt(len(histograms))
    redrawn = histograms + _more(deviation, histograms.shape)
    all_values = of(histograms.sum(axis=0), deviation * spread)
    all_redrawn = of(redrawn.sum(axis=1), deviation * spread * np.sqrt(2))
    all_clear = _is_clear(histograms.sum(axis=0), outcome, deviation * spread)
    found: dict[str, PrivateFigures] = {}
    for row, name in enumerate(names):
        values = of(histograms[row], deviation)
        again = of(redrawn[:, row], deviation * np.sqrt(2))
        clear = _is_clear(histograms[row], outcome, deviation)
        above = {one: value - all_values[one] for one, value in values.items()}
        above_again = {one: value - all_redrawn[one] for one, value in again.items()}
        found[name] = {
            **_figures(values, again, clear),
            **{
                one + ABOVE_ALL: figure
                for one, figure in _figures(above, above_again, clear and all_clear).items()
            },
        }
    return found


def _by_bin(histogram: Floats, deviation: float) -> tuple[PrivateFigure | None, ...]:
    """The share of right answers in each bin; none where too few answers are clear of the noise.

    Its deviation is that of a ratio to first order.
    """
    wrong, right = np.split(histogram, 2)
    found: list[PrivateFigure | None] = []
    for answers, rights in zip(wrong + right, right, strict=True):
        if not answers > CLEAR * deviation * np.sqrt(2):
            found.append(None)
            continue
        share = rights / answers
        spread = deviation * np.hypot(1 - share, share) / answers
        found.append(PrivateFigure(value=float(share), noise_deviation=float(spread)))
    return tuple(found)


def _of(outcome: Outcome) -> _Of:
    return _binary if outcome == "binary" else _ranked


def _is_clear(histogram: Floats, outcome: Outcome, deviation: float) -> bool:
    """Whether every denominator is clear of its noise: right and wrong answers, or queries."""
    parts = np.split(histogram, 2) if outcome == "binary" else [histogram]
    return all(
        part.sum() > 0 and part.sum() >= CLEAR * deviation * np.sqrt(len(part)) for part in parts
    )


def _more(deviation: float, shape: tuple[int, ...]) -> Floats:
    """(redraws, …) public noise, for error bars only: more of what the histogram already has."""
    return deviation * np.random.default_rng(0).standard_normal((_REDRAWS, *shape))


def _figures(values: dict[str, Floats], redrawn: dict[str, Floats], clear: bool) -> PrivateFigures:
    if not clear:
        return dict.fromkeys(values)
    return {
        name: PrivateFigure(value=float(value), noise_deviation=float(np.std(redrawn[name])))
        for name, value in values.items()
    }


def _binary(histograms: Floats, deviation: float) -> dict[str, Floats]:
    """Figures of (…, 2·bins) histograms. AUC by ranks, ties counted half.

    The calibration error is the mean, over answers, of how far the share of right answers in a bin
    is from the bin's middle (Naeini, Cooper, Hauskrecht 2015). Noise alone would make it large: the
    square of what it adds to a bin, which is known, is subtracted from the square of what is found.
    """
    wrong, right = np.split(histograms, 2, axis=-1)
    bins = wrong.shape[-1]
    middle = (np.arange(bins) + 0.5) / bins
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    all_right, all_wrong = right.sum(axis=-1), wrong.sum(axis=-1)
    total = all_right + all_wrong
    surplus = wrong * middle - right * (1 - middle)
    noise = deviation**2 * (middle**2 + (1 - middle) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = (right * below).sum(axis=-1) / (all_right * all_wrong)
        loss = -(right @ np.log(middle) + wrong @ np.log1p(-middle)) / total
        gap = surplus.sum(axis=-1) / total
        error = np.sqrt(np.maximum(0, surplus**2 - noise)).sum(axis=-1) / total
    return {
        "auc": np.clip(auc, 0, 1),
        "log_loss": loss,
        "calibration_gap": gap,
        "calibration_error": error,
    }


def _ranked(histograms: Floats, deviation: float) -> dict[str, Floats]:
    """Figures of (…, 11) histograms, as in He et al., WWW 2017, section 4.1."""
    del deviation  # these are ratios of sums: noise makes them rough, not too large
    best = histograms[..., :BEST_RANKS]
    gains = 1 / np.log2(np.arange(BEST_RANKS) + 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = histograms.sum(axis=-1)
        hits, gained = best.sum(axis=-1) / total, best @ gains / total
    return {f"hr@{BEST_RANKS}": hits, f"ndcg@{BEST_RANKS}": gained}
