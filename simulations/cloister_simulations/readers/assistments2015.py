"""ASSISTments 2015 with pyKT's own folds (Liu et al., NeurIPS 2022, datasets track)."""

from pathlib import Path

import pandas as pd

from cloister_shared.errors import DataError
from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    learner_records,
    positions,
    published_curriculum,
    read_table,
)

TEST_FOLD = -1
_COLUMNS = {"uid": "learner", "fold": "fold", "concepts": "skill", "responses": "correct"}


def read(directory: Path) -> Dataset:
    """The data set in ``directory``: folds 0 to 4 are for training, ``TEST_FOLD`` is the test.

    The data set has no problems, so every skill is an item of its own.
    """
    parts = [
        read_table(directory / name, _COLUMNS) for name in ("train_valid.csv.gz", "test.csv.gz")
    ]
    table = _one_row_per_answer(pd.concat(parts, ignore_index=True))
    skills = positions(table["skill"])
    return Dataset(
        name="assistments2015",
        curriculum=published_curriculum("assistments2015", table),
        learners=learner_records(table, skills, skills[:, None]),
    )


def _one_row_per_answer(lines: pd.DataFrame) -> pd.DataFrame:
    """Unpack the comma lists; a learner on two lines would be in two folds: ``DataError``."""
    if not lines["learner"].is_unique:
        raise DataError("a learner of ASSISTments 2015 stands on two lines: use pyKT's whole lists")
    lists = lines.assign(
        skill=lines["skill"].astype(str).str.split(","),
        correct=lines["correct"].astype(str).str.split(","),
    )
    try:
        table = lists.explode(["skill", "correct"], ignore_index=True)
    except ValueError as error:
        raise DataError("a line of ASSISTments 2015 has more concepts than responses") from error
    return table.assign(
        skill=table["skill"].astype("int32"),
        item=table["skill"].astype("int32"),
        skill_name=table["skill"],
        correct=table["correct"].astype("float32"),
    )
