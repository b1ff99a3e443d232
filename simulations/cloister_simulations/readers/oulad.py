"""OULAD: assessments at the Open University (Kuzilek, Hlosta, Zdrahal, Scientific Data, 2017).

Read are ``studentAssessment.csv``, ``assessments.csv`` and ``studentInfo.csv``.
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
    refuse_lines,
    whole_numbers,
)

PASS_MARK = 40
"""The score, of 100, from which on an assessment is passed."""
_RESULTS = {
    "id_student": "learner",
    "id_assessment": "item",
    "date_submitted": "day",
    "is_banked": "banked",
    "score": "score",
}
_ASSESSMENTS = {
    "id_assessment": "item",
    "code_module": "skill_name",
    "code_presentation": "presentation",
}
_LEARNERS = {"id_student": "learner", "region": "institution"}


def read(directory: Path) -> Dataset:
    """The data set in ``directory``: an interaction is a marked result, right if it was passed.

    Items are the assessments of each presentation, skills the seven modules. The institution is
    the learner's region: every learner has one, in which they stay over all their modules, while
    a learner may take several modules. Left out are results without a score, and banked ones,
    which were taken over from an earlier presentation. The order is that of the presentations,
    within one that of the days of submission.
    """
    path = published_file(directory, "studentAssessment.csv")
    table = _with_region(directory, _with_module(directory, _marked_results(path)))
    table = table.assign(skill=pd.factorize(table["skill_name"], sort=True)[0])
    table = checked_answers(path, table).sort_values(["presentation", "day"], kind="stable")
    skills = positions(table["skill"])
    return Dataset(
        name="oulad",
        curriculum=published_curriculum("oulad", table),
        learners=learner_records(table, positions(table["item"]), skills[:, None]),
    )


def _marked_results(path: Path) -> pd.DataFrame:
    results = read_table(path, _RESULTS, na_values="?")
    scored = results[results["score"].notna()]
    scored = scored.assign(
        **{name: whole_numbers(path, scored, name) for name in ("banked", "day")}
    )
    marked = scored[scored["banked"] == 0]
    scores = pd.to_numeric(marked["score"], errors="coerce")
    refuse_lines(path, ~scores.between(0, 100), "the score is not a number from 0 to 100")
    return marked.assign(correct=(scores >= PASS_MARK).astype("float32"))


def _with_module(directory: Path, results: pd.DataFrame) -> pd.DataFrame:
    assessments = read_table(published_file(directory, "assessments.csv"), _ASSESSMENTS)
    joined = results.join(assessments.drop_duplicates("item").set_index("item"), on="item")
    if joined["skill_name"].isna().any():
        raise DataError("a result of OULAD is of an assessment that assessments.csv does not list")
    return joined


def _with_region(directory: Path, results: pd.DataFrame) -> pd.DataFrame:
    learners = read_table(published_file(directory, "studentInfo.csv"), _LEARNERS)
    learners = learners.drop_duplicates()
    if not learners["learner"].is_unique:
        raise DataError("a learner of OULAD has two regions in studentInfo.csv")
    joined = results.join(learners.set_index("learner"), on="learner")
    if joined["institution"].isna().any():
        raise DataError("a result of OULAD is of a learner without a region in studentInfo.csv")
    return joined
