"""Any data set in the lists of pyKT (Liu et al., NeurIPS 2022, datasets track).

A line is a learner, or a stretch of one in pyKT's ``_sequences`` files; the columns ``concepts``,
``responses`` and, where the data set has problems, ``questions`` hold lists with commas between.
"""

from pathlib import Path

import pandas as pd

from cloister_shared.errors import DataError
from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    checked_answers,
    learner_records,
    positions,
    published_curriculum,
    published_file,
    read_table,
)

TEST_FOLD = -1
PADDING = "-1"
_COLUMNS = {
    "uid": "learner",
    "fold": "fold",
    "questions": "item",
    "concepts": "skill",
    "responses": "correct",
    "selectmasks": "selected",
}
_LISTS = ["item", "skill", "correct", "selected"]


def read(directory: Path, name: str | None = None) -> Dataset:
    """The data set in ``directory``: folds 0, 1, … are for training, ``TEST_FOLD`` is the test.

    ``train_valid.csv`` and ``test.csv`` are read, or where there are none, the ``_sequences``
    made of them, whose padding is left out and whose stretches are joined; each may be packed
    with gzip. A question with several concepts stands in the lists once for each, and is as many
    steps, as in pyKT's figures. Without questions every concept is an item of its own.
    """
    table = pd.concat([_read_part(_file(directory, part)) for part in ("train_valid", "test")])
    if (table.groupby("learner")["fold"].nunique() > 1).any():
        raise DataError(f"a learner of {directory.name} stands in two folds")
    skills = positions(table["skill"])
    name = name or directory.name
    return Dataset(
        name=name,
        curriculum=published_curriculum(name, table),
        learners=learner_records(table, positions(table["item"]), skills[:, None]),
    )


def _file(directory: Path, part: str) -> Path:
    whole = published_file(directory, f"{part}.csv")
    stretches = published_file(directory, f"{part}_sequences.csv")
    return stretches if stretches.exists() and not whole.exists() else whole


def _read_part(path: Path) -> pd.DataFrame:
    """One row an answer."""
    lines = read_table(path, _COLUMNS, optional=("questions", "selectmasks"), dtype=str)
    lists = [name for name in _LISTS if name in lines]
    for name in lists:
        lines[name] = lines[name].str.split(",")
    try:
        table = lines.explode(lists)
    except ValueError as error:
        raise DataError(f"{path.name}: the lists of a line are not of one length") from error
    table = table[table.get("selected", table["correct"]) != PADDING]
    if "item" not in table:
        table = table.assign(item=table["skill"])
    return checked_answers(path, table)
