"""What a learner's earlier answers say by counting: to the same skill, the same item, to anything.

Performance factors analysis (Pavlik, Cen, Koedinger 2009) and Best-LR (Gervet et al. 2020) predict
well from little more. The features have fixed scales and are shared by all skills and items, so a
handful of weights uses them: they survive noise that drowns an LSTM. Joined to the LSTM's logit as
the wide part of a wide-and-deep model (Cheng et al. 2016).

Twelve features, few of them far from ±1, since a learner's gradient is clipped as a whole:

- of the skill, with several their mean: the share of right answers; whether a block begins, the
  block's length, and its latest run of right answers, twice: its length, and whether it is a
  mastery streak. A block is answers one after the other to the skill.
- of the item: log(1 + successes), log(1 + failures), and the latest three outcomes, newest first,
  as +1, -1, or 0 where there is none.
- of all answers: the share of right ones, and the latest ten outcomes.
"""

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History

SKILL, ITEM, ALL = slice(0, 5), slice(5, 10), slice(10, 12)
"""Which features are of the skill, of the item, and of all answers."""
FEATURES = ALL.stop

LATEST, RECENT = 3, 10
STREAK, LONGEST_RUN = 3, 5
_ITEM_SCALE = 0.25

Features = NDArray[np.float32]
Ints = NDArray[np.int64]


def answered(history: History, learners: Ints | None = None) -> Features:
    """(n, 12) features of each answer, from the learner's answers before it.

    ``learners`` (n,) says whose each answer is where ``history`` holds those of several.
    """
    return answered_by_skill(history, learners)[0]


def answered_by_skill(history: History, learners: Ints | None = None) -> tuple[Features, Features]:
    """The same, and (n, S, 5) the part of each of an answer's skills, 0 where padded."""
    whose = np.zeros(len(history), dtype=np.int64) if learners is None else learners
    right = history.correct > 0.5
    rows, columns = np.nonzero(history.skills >= 0)
    skills = _within(whose[rows], history.skills[rows, columns])
    by_skill = np.zeros((*history.skills.shape, SKILL.stop), dtype=np.float32)
    by_skill[rows, columns] = _of_skill_before(skills, rows, right[rows])
    counts = np.bincount(rows, minlength=len(history))
    features = np.empty((len(history), FEATURES), dtype=np.float32)
    features[:, SKILL] = by_skill.sum(axis=1) / np.maximum(counts, 1)[:, None]
    features[:, ITEM] = _of_item_before(_within(whose, history.items), right)
    features[:, ALL] = _of_all_before(whose, right)
    return features, by_skill


def of_skills(history: History, skills: int) -> Features:
    """(skills, 12) features of a next answer to each skill, on an item that was not met before."""
    right = history.correct > 0.5
    rows, columns = np.nonzero(history.skills >= 0)
    pairs = history.skills[rows, columns]
    length, run = np.zeros((2, skills), dtype=np.int64)
    for skill in pairs[rows == len(history) - 1]:
        with_skill = (history.skills == skill).any(axis=1)
        length[skill], run[skill] = _trailing(with_skill), _trailing(with_skill & right)
    features = np.zeros((skills, FEATURES), dtype=np.float32)
    features[:, SKILL] = _of_skill(
        np.bincount(pairs[right[rows]], minlength=skills),
        np.bincount(pairs, minlength=skills),
        length,
        run,
    )
    latest = _signed(right[-RECENT:])
    features[:, ALL] = _of_all(*map(np.array, (right.sum(), len(right), latest.sum())))
    return features


def of_items(history: History, items: int) -> Features:
    """(items, 5) features of a next answer to each item: the part that is the item's own."""
    right = history.correct > 0.5
    order = np.argsort(history.items, kind="stable")
    outcomes = _signed(right[order])
    answers = np.bincount(history.items, minlength=items)
    successes = np.bincount(history.items[right], minlength=items)
    features = _counts(successes, answers)
    end = np.searchsorted(history.items[order], np.arange(items), side="right")
    for lag in range(1, LATEST + 1):
        has = np.flatnonzero(answers >= lag)
        features[has, 1 + lag] = outcomes[end[has] - lag]
    return _ITEM_SCALE * features


def _of_skill(successes: Ints, answers: Ints, length: Ints, run: Ints) -> Features:
    """(n, 5) from what came before: a skill's answers, its block's length and run of successes."""
    columns = [
        (successes + 1) / (answers + 2) - 0.5,
        0.5 * (length == 0),
        0.5 * np.log1p(length),
        np.minimum(run, LONGEST_RUN) / 3,
        0.5 * (run >= STREAK),
    ]
    return np.stack(columns, axis=-1).astype(np.float32)


def _of_all(successes: Ints, answers: Ints, recent: Features) -> Features:
    """(n, 2) from all earlier answers, and the sum of the latest outcomes among them."""
    shares = (successes + 2) / (answers + 4) - 0.5
    latest = recent / (np.minimum(answers, RECENT) + 1)
    return np.stack([shares, latest], axis=-1).astype(np.float32)


def _counts(successes: Ints, answers: Ints) -> Features:
    """(n, 5) an item's logarithms of counts; its latest outcomes are still 0."""
    features = np.zeros((len(answers), 2 + LATEST), dtype=np.float32)
    features[:, 0] = np.log1p(successes)
    features[:, 1] = np.log1p(answers - successes)
    return features


def _of_skill_before(groups: Ints, rows: Ints, right: NDArray[np.bool_]) -> Features:
    """(n, 5) features of each answer to a skill; ``rows`` (n,) are its place among all answers."""
    order, place = _sorted(groups)
    index = np.arange(len(order))
    begins = (place == 0) | (np.diff(rows[order], prepend=-1) != 1)
    block = np.maximum.accumulate(np.where(begins, index, 0))
    broken = np.maximum.accumulate(np.where(_shifted(~right[order]), index, 0))
    features = np.empty((len(order), SKILL.stop), dtype=np.float32)
    features[order] = _of_skill(
        _successes(right[order], place), place, index - block, index - np.maximum(block, broken)
    )
    return features


def _of_item_before(groups: Ints, right: NDArray[np.bool_]) -> Features:
    """(n, 5) features of each answer to an item."""
    order, place = _sorted(groups)
    outcomes = _signed(right[order])
    features = np.empty((len(order), 2 + LATEST), dtype=np.float32)
    features[order] = _counts(_successes(right[order], place), place)
    for lag in range(1, LATEST + 1):
        has = np.flatnonzero(place >= lag)
        features[order[has], 1 + lag] = outcomes[has - lag]
    return _ITEM_SCALE * features


def _of_all_before(whose: Ints, right: NDArray[np.bool_]) -> Features:
    """(n, 2) features of each answer that say nothing of its skill or item."""
    order, place = _sorted(whose)
    index = np.arange(len(order))
    total = np.concatenate([[0], np.cumsum(_signed(right[order]), dtype=np.int64)])
    recent = total[index] - total[index - np.minimum(place, RECENT)]
    features = np.empty((len(order), 2), dtype=np.float32)
    features[order] = _of_all(_successes(right[order], place), place, recent)
    return features


def _sorted(groups: Ints) -> tuple[Ints, Ints]:
    """Positions group by group, in their order, and the place of each within its group."""
    order = np.argsort(groups, kind="stable")
    in_order = groups[order]
    return order, np.arange(len(order)) - np.searchsorted(in_order, in_order)


def _successes(right: NDArray[np.bool_], place: Ints) -> Ints:
    """(n,) right answers before each one of its group, of answers sorted by group."""
    total = np.concatenate([[0], np.cumsum(right)])
    return np.asarray(total[:-1] - total[np.arange(len(place)) - place])


def _shifted(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each one's predecessor; False before the first."""
    return np.concatenate([[False], flags[:-1]])[: len(flags)]


def _trailing(flags: NDArray[np.bool_]) -> int:
    """How many flags at the end are set."""
    return int(len(flags) - np.flatnonzero(~flags).max(initial=-1) - 1)


def _signed(right: NDArray[np.bool_]) -> Features:
    return np.where(right, 1, -1).astype(np.float32)


def _within(learners: Ints, groups: NDArray[np.int32]) -> Ints:
    """(n,) a number for each learner's own group."""
    return learners * (int(groups.max(initial=0)) + 1) + groups
