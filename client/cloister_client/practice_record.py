"""What a learner's earlier answers say by counting: to the same skill, the same item, to anything.

Performance factors analysis (Pavlik, Cen, Koedinger 2009) and Best-LR (Gervet et al. 2020) predict
well from little more. The features have fixed scales and are shared by all skills and items, so a
handful of weights uses them: they survive noise that drowns an LSTM. Joined to the LSTM's logit as
the wide part of a wide-and-deep model (Cheng et al. 2016).

For each of skill, item and all answers: log(1 + successes), log(1 + failures), and the latest three
outcomes, newest first, as +1, -1, or 0 where there is none. With several skills: their mean.
"""

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_shared.model_specs.dkt import PRACTICE_FEATURES

LATEST = 3
PER_GROUP = 2 + LATEST

Features = NDArray[np.float32]


def answered(history: History, learners: NDArray[np.int64] | None = None) -> Features:
    """(n, 15) features of each answer, from the learner's answers before it.

    ``learners`` (n,) says whose each answer is where ``history`` holds those of several.
    """
    whose = np.zeros(len(history), dtype=np.int64) if learners is None else learners
    signed = _signed(history)
    rows, columns = np.nonzero(history.skills >= 0)
    skills = _within(whose[rows], history.skills[rows, columns])
    of_pairs = _before(skills, signed[rows])
    features = np.zeros((len(history), PRACTICE_FEATURES), dtype=np.float32)
    if np.array_equal(rows, np.arange(len(history))):
        features[:, :PER_GROUP] = of_pairs
    else:
        np.add.at(features[:, :PER_GROUP], rows, of_pairs)
        counts = np.bincount(rows, minlength=len(history))
        features[:, :PER_GROUP] /= np.maximum(counts, 1)[:, None]
    features[:, PER_GROUP : 2 * PER_GROUP] = _before(_within(whose, history.items), signed)
    features[:, 2 * PER_GROUP :] = _before(whose, signed)
    return features


def of_skills(history: History, skills: int) -> Features:
    """(skills, 15) features of a next answer to each skill, on an item that was not met before."""
    rows, columns = np.nonzero(history.skills >= 0)
    signed = _signed(history)
    features = np.zeros((skills, PRACTICE_FEATURES), dtype=np.float32)
    features[:, :PER_GROUP] = _after(history.skills[rows, columns], signed[rows], skills)
    features[:, 2 * PER_GROUP :] = _after(np.zeros(len(history), dtype=np.int32), signed, 1)
    return features


def of_items(history: History, items: int) -> Features:
    """(items, 5) features of a next answer to each item: the part that is the item's own."""
    return _after(history.items, _signed(history), items)


def _signed(history: History) -> Features:
    return np.where(history.correct > 0.5, 1, -1).astype(np.float32)


def _within(learners: NDArray[np.int64], groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) a number for each learner's own group."""
    return learners * (int(groups.max(initial=0)) + 1) + groups


def _before(groups: NDArray[np.int64], signed: Features) -> Features:
    """(n, 5) features of each position, from the earlier positions of its group."""
    order = np.argsort(groups, kind="stable")
    sorted_groups, outcomes = groups[order], signed[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_groups, sorted_groups)
    features = np.zeros((len(order), PER_GROUP), dtype=np.float32)
    total = np.concatenate([[0], np.cumsum(outcomes > 0)])
    start = np.arange(len(order)) - place
    successes = total[:-1] - total[start]
    features[order, 0] = np.log1p(successes)
    features[order, 1] = np.log1p(place - successes)
    for lag in range(1, LATEST + 1):
        has = np.flatnonzero(place >= lag)
        features[order[has], 1 + lag] = outcomes[has - lag]
    return features


def _after(groups: NDArray[np.int32], signed: Features, size: int) -> Features:
    """(size, 5) features of each group, from all its positions."""
    order = np.argsort(groups, kind="stable")
    sorted_groups, outcomes = groups[order], signed[order]
    answers = np.bincount(groups, minlength=size)
    successes = np.bincount(groups[signed > 0], minlength=size)
    features = np.zeros((size, PER_GROUP), dtype=np.float32)
    features[:, 0] = np.log1p(successes)
    features[:, 1] = np.log1p(answers - successes)
    end = np.searchsorted(sorted_groups, np.arange(size), side="right")
    for lag in range(1, LATEST + 1):
        has = np.flatnonzero(answers >= lag)
        features[has, 1 + lag] = outcomes[end[has] - lag]
    return features
