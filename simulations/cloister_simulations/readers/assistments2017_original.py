"""ASSISTments 2017 as the data mining competition released it, one row an action.

The file is ``anonymized_full_release_competition_dataset.csv``.
"""

from pathlib import Path

import pandas as pd

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    checked_answers,
    learner_records,
    positions,
    published_curriculum,
    published_file,
    read_table,
    refuse_lines,
    whole_numbers,
)

FILE = "anonymized_full_release_competition_dataset.csv"
_COLUMNS = {
    "studentId": "learner",
    "MiddleSchoolId": "institution",
    "problemId": "item",
    "skill": "skill_name",
    "correct": "correct",
    "startTime": "when",
}


def read(directory: Path) -> Dataset:
    """The data set in ``directory``, in order of time; rows of equal time keep the file's order.

    The institution is ``school-`` and its number. The release has no folds.
    """
    path = published_file(directory, FILE)
    table = read_table(path, _COLUMNS)
    refuse_lines(path, table["skill_name"].isna(), "the skill is missing")
    table = table.assign(
        skill=pd.factorize(table["skill_name"], sort=True)[0],
        institution=table["institution"].map("school-{:.0f}".format, na_action="ignore"),
        when=whole_numbers(path, table, "when"),
    )
    table = checked_answers(path, table).sort_values("when", kind="stable")
    skills = positions(table["skill"])
    return Dataset(
        name="assistments2017_original",
        curriculum=published_curriculum("assistments2017_original", table),
        learners=learner_records(table, positions(table["item"]), skills[:, None]),
    )
