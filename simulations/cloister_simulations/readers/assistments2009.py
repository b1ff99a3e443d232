"""ASSISTments 2009-2010, as cut into five test folds by AKT (Ghosh et al., KDD 2020)."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    learner_records,
    positions,
    published_curriculum,
    read_answers,
)

_COLUMNS = {
    "user_id": "learner",
    "problem_id": "item",
    "skill_idx": "skill",
    "skill_name": "skill_name",
    "correct": "correct",
    "fold": "fold",
}


def read(directory: Path, skills: Literal["one_by_one", "together"] = "one_by_one") -> Dataset:
    """The data set in ``directory``; a record's ``fold`` (1 to 5) is the one that tests it.

    A question with several skills stands in the file once per skill. ``one_by_one`` keeps each
    row as a step of its own, as AKT and most published figures do, although the label of the
    second row is known from the first; ``together`` makes one answer of them.
    """
    table = read_answers(directory / "interactions.csv.gz", _COLUMNS)
    items, skill = positions(table["item"]), positions(table["skill"])
    curriculum = published_curriculum("assistments2009", table)
    if skills == "together":
        answers = answer_numbers(table)
        first = np.flatnonzero(np.diff(answers, prepend=-1))
        learners = learner_records(table.iloc[first], items[first], _side_by_side(answers, skill))
    else:
        learners = learner_records(table, items, skill[:, np.newaxis])
    return Dataset("assistments2009", curriculum, learners)


def answer_numbers(table: pd.DataFrame) -> NDArray[np.int64]:
    """(rows,) 0, 1, 2, …: consecutive rows of one learner and item are one answer.

    A skill that comes again within such a run starts the next answer: the question was put again.
    """
    run = table[["learner", "item"]].ne(table[["learner", "item"]].shift()).any(axis=1).cumsum()
    attempt = table.groupby([run, table["skill"]]).cumcount()
    starts = run.ne(run.shift()) | (attempt > attempt.shift(fill_value=0))
    return np.asarray(starts.cumsum() - 1, dtype=np.int64)


def _side_by_side(answers: NDArray[np.int64], skill: NDArray[np.int32]) -> NDArray[np.int32]:
    """(answers, most skills of one) the skills of each answer's rows, padded with -1."""
    first = np.flatnonzero(np.diff(answers, prepend=-1))
    place = np.arange(len(answers)) - first[answers]
    side_by_side = np.full((len(first), place.max() + 1), -1, dtype=np.int32)
    side_by_side[answers, place] = skill
    return side_by_side
