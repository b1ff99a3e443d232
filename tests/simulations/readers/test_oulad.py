"""OULAD's tables: what counts as an interaction, and where a learner lives."""

from pathlib import Path

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.readers import oulad

RESULTS = [
    "1752,11,18,0,78",
    "1752,12,20,0,39",
    "24286,11,3,0,40",
    "1753,12,52,0,",
    "1753,11,-1,1,90",
]
ASSESSMENTS = ['"BBB","2013J","1752"', '"BBB","2013J","1753"', '"AAA","2013B","24286"']
LEARNERS = ["11,Wales", "12,Scotland", "11,Wales"]


def write(
    folder: Path,
    results: list[str] = RESULTS,
    assessments: list[str] = ASSESSMENTS,
    learners: list[str] = LEARNERS,
) -> Path:
    tables = {
        "studentAssessment": ["id_assessment,id_student,date_submitted,is_banked,score", *results],
        "assessments": ['"code_module","code_presentation","id_assessment"', *assessments],
        "studentInfo": ["id_student,region", *learners],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_a_marked_result_is_an_interaction_and_right_if_it_was_passed(tmp_path: Path) -> None:
    dataset = oulad.read(write(tmp_path))
    eleven, twelve = dataset.learners
    assert [skill.id for skill in dataset.curriculum.skills] == ["AAA", "BBB"]
    assert [(one.id, one.skills) for one in dataset.curriculum.items] == [
        ("1752", ("BBB",)),
        ("24286", ("AAA",)),
    ]
    assert (eleven.key, eleven.institution) == ("11", "Wales")
    assert (twelve.key, twelve.institution) == ("12", "Scotland")
    assert eleven.history.items.tolist() == [1, 0], "an earlier presentation comes first"
    assert eleven.history.correct.tolist() == [1, 1]
    assert twelve.history.correct.tolist() == [0]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"results": ["1752,11,18,0,101"]}, "line 2: the score is not a number from 0 to 100"),
        ({"results": ["1752,11,18,0,good"]}, "line 2: the score is not a number from 0 to 100"),
        ({"results": ["1752,11,,0,78"]}, "line 2: the day is not a whole number"),
        ({"assessments": ASSESSMENTS[1:]}, "an assessment that assessments.csv does not list"),
        ({"learners": LEARNERS[1:2]}, "a learner without a region"),
        ({"learners": [*LEARNERS, "12,Wales"]}, "two regions"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, tables: dict[str, list[str]], expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        oulad.read(write(tmp_path, **tables))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "studentInfo.csv").unlink()
    with pytest.raises(DataError, match=r"studentInfo\.csv is missing"):
        oulad.read(tmp_path)
