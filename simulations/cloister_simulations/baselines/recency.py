"""How long ago a learner last met a skill, and how they did lately: what plain counts do not say.

Spacing and recency carry much of what a recurrent network finds in answers (Khajah, Lindsey, Mozer,
"How Deep is Knowledge Tracing?", EDM 2016, sections 3 and 5).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from cloister_client.histories import History

HALF_LIVES = (3, 10, 30)
"""Answers after which an outcome counts half."""
RECENCY_FEATURES = 3 + len(HALF_LIVES)


def recency_features(histories: History, learners: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, 6) of each answer, from its learner's answers before it; all lie about within ±1.

    ``learners`` (n,) numbers whose answers they are, one learner after the other. For the answer's
    first skill: whether it was never met, whether it was the last one met, and the logarithm of
    the answers in between. Then, for each half-life, the decayed (right - wrong) / (all + 2).
    """
    skills = histories.skills[:, 0].astype(np.int64)
    gap = _answers_between(learners * (int(skills.max(initial=0)) + 2) + skills)
    start = np.searchsorted(learners, learners)
    signed = np.where(histories.correct > 0.5, 1.0, -1.0)
    columns = [gap < 0, gap == 0, np.log1p(np.maximum(gap, 0)) / 4]
    for half_life in HALF_LIVES:
        decay = 0.5 ** (1 / half_life)
        balance = _decayed_before(signed, start, decay)
        columns.append(balance / (_decayed_before(np.ones_like(signed), start, decay) + 2))
    return np.column_stack(columns).astype(np.float32)


def _answers_between(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) positions between each one and the one before it in its group; -1 where none is."""
    order = np.argsort(groups, kind="stable")
    again = np.flatnonzero(groups[order][1:] == groups[order][:-1]) + 1
    gap = np.full(len(groups), -1)
    gap[order[again]] = order[again] - order[again - 1] - 1
    return gap


def _decayed_before(
    values: NDArray[np.float64], start: NDArray[np.int64], decay: float
) -> NDArray[np.float64]:
    """(n,) Σ decay^(i - 1 - j) · value_j over start_i ≤ j < i: the latest value counts whole.

    Summed over everything at once; what comes from before ``start`` is known and taken off.
    """
    total = np.concatenate([[0.0], lfilter([1.0], [1.0, -decay], values)])
    place = np.arange(len(values))
    return np.asarray(total[place] - decay ** (place - start) * total[start])
