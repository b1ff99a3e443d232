"""What the tracing baselines share: all answers in one table, predictions back apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.models.base import Scores


def answered_skills(
    histories: Sequence[History],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All (answer, skill) pairs once each, in the answers' order; answers counted throughout."""
    rows, skills, start = [], [], 0
    for history in histories:
        answer, place = np.nonzero(history.skills >= 0)
        rows.append(start + answer)
        skills.append(history.skills[answer, place])
        start += len(history)
    # A skill named twice in one answer would count the answer as its own past.
    pairs = pd.DataFrame({"row": concatenated(rows, int), "skill": concatenated(skills, int)})
    pairs = pairs.drop_duplicates()
    return pairs["row"].to_numpy(), pairs["skill"].to_numpy()


def learners_of_answers(histories: Sequence[History]) -> NDArray[np.int64]:
    """(answers of all histories,) the place of each one's history."""
    return np.repeat(np.arange(len(histories)), [len(history) for history in histories])


def all_correct(histories: Sequence[History]) -> NDArray[np.float64]:
    """(answers of all histories,) 1 where right, else 0."""
    return concatenated([history.correct for history in histories])


def mean_over_skills(
    values: NDArray[np.float64], rows: NDArray[np.int64], answers: int, without_skill: float
) -> NDArray[np.float64]:
    """(answers,) mean of the ``values`` of each answer's pairs; ``rows`` says whose they are."""
    pairs = np.bincount(rows, minlength=answers)
    sums = np.bincount(rows, weights=values, minlength=answers)
    return np.where(pairs > 0, sums / np.maximum(pairs, 1), without_skill)


def by_history(histories: Sequence[History], probabilities: NDArray[np.float64]) -> list[Scores]:
    """Predictions of each history without its first answer, which has no past."""
    ends = np.cumsum([len(history) for history in histories], dtype=int)
    parts = np.split(probabilities, ends)[:-1]
    return [
        Scores(history.correct[1:].astype(np.float64), part[1:])
        for history, part in zip(histories, parts, strict=True)
    ]


def concatenated(parts: Sequence[NDArray[Any]], dtype: type = float) -> NDArray[Any]:
    """All parts in one array of ``dtype``; no parts give an empty one."""
    return np.concatenate([*parts, np.zeros(0)]).astype(dtype)
