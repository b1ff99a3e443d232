"""ASSISTments 2017 (the data mining competition's), in AKT's five test folds."""

from pathlib import Path

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    learner_records,
    positions,
    published_curriculum,
    read_answers,
)

_COLUMNS = {
    "student_id": "learner",
    "school_id": "institution",
    "problem_id": "item",
    "skill_idx": "skill",
    "skill_name": "skill_name",
    "correct": "correct",
    "fold": "fold",
}


def read(directory: Path) -> Dataset:
    """The data set in ``directory``; a record's ``fold`` (1 to 5) is the one that tests it.

    The institution is ``school-1`` to ``school-4``, and None for the two thirds of the learners
    whose school was not published.
    An answer keeps the one skill that its row names, also where its item has further ones.
    """
    table = read_answers(directory / "interactions.csv.gz", _COLUMNS)
    curriculum = published_curriculum("assistments2017", table)
    items, skills = positions(table["item"]), positions(table["skill"])
    table["institution"] = table["institution"].map("school-{:.0f}".format, na_action="ignore")
    return Dataset("assistments2017", curriculum, learner_records(table, items, skills[:, None]))
