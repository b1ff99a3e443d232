import os
from pathlib import Path

import pytest

from cloister_client.histories import History
from cloister_client.importing import Tally
from cloister_client.importing.assistments import assistments_curriculum, read_assistments
from cloister_shared.errors import DataError

HEADER = "order_id,user_id,problem_id,correct,skill_id,skill_name,answer_text\n"


def write(folder: Path, rows: str) -> Path:
    path = folder / "export.csv"
    path.write_text(HEADER + rows, encoding="utf-8-sig")
    return path


@pytest.fixture
def sample() -> Path:
    root = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("CLOISTER_DATA", root)) / "assistments2009"
    if not folder.is_dir():
        pytest.skip("the ASSISTments 2009 sample is not here: set CLOISTER_DATA to its folder")
    return folder / "original_format_sample.csv.gz"


def test_rows_of_one_order_id_become_one_answer_with_all_their_skills(tmp_path: Path) -> None:
    path = write(tmp_path, "7,1,50,1,1,Mean,4\n6,1,49,0,1,Mean,\n7,1,50,1,2,Mode,4\n")
    first, second = read_assistments(path)
    assert (first.item, first.correct, first.skills) == ("49", False, ("Mean",))
    assert (second.key, second.skills) == ("7", ("Mean", "Mode"))


def test_answers_come_in_the_order_of_their_order_ids(tmp_path: Path) -> None:
    path = write(tmp_path, "100,1,50,1,1,Mean,\n99,2,50,1,1,Mean,\n")
    assert [one.when for one in read_assistments(path)] == [99.0, 100.0]


def test_a_row_without_a_skill_is_skipped_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    path = write(tmp_path, "1,1,50,1,,,\n2,1,50,1,9,,\n")
    assert [one.skills for one in read_assistments(path, tally)] == [("skill 9",)]
    assert (tally.rows, tally.without_skill) == (2, 1)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("1,1,50,0.5,1,Mean,\n", "line 2: the label"),
        ("x,1,50,1,1,Mean,\n", "line 2: order_id"),
        (f"{'9' * 400},1,50,1,1,Mean,\n", "line 2: order_id must be a whole number up to"),
        (f"{2**53 + 1},1,50,1,1,Mean,\n", "line 2: order_id must be a whole number up to"),
        ("", "holds a header and no rows"),
        ("1,,50,1,1,Mean,\n", "line 2: user_id"),
        ("1,1,50,1,1,Mean,\n1,1,50,0,2,Mode,\n", "line 3: contradicts"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, rows: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        list(read_assistments(write(tmp_path, rows)))


def test_neighbouring_order_ids_stay_apart_up_to_the_largest(tmp_path: Path) -> None:
    path = write(tmp_path, f"{2**53},1,50,1,1,Mean,\n{2**53 - 1},1,50,0,1,Mean,\n")
    assert [one.when for one in read_assistments(path)] == [2**53 - 1, 2**53]


def test_a_curriculums_problem_without_an_id_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: problem_id must not be empty"):
        assistments_curriculum(write(tmp_path, "1,1,,1,1,Mean,\n"), "empty")


def test_a_file_without_any_skill_makes_no_curriculum(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no skill"):
        assistments_curriculum(write(tmp_path, "1,1,50,1,,,\n"), "empty")


def test_the_original_export_is_read_whole(sample: Path) -> None:
    tally = Tally()
    answers = list(read_assistments(sample, tally))
    assert (tally.rows, tally.without_skill, len(answers)) == (1887, 338, 1210)
    assert len({one.key for one in answers}) == 1210
    assert len({one.learner for one in answers}) == 15
    assert max(len(one.skills) for one in answers) == 4


def test_its_own_curriculum_knows_all_its_items_and_skills(sample: Path) -> None:
    curriculum = assistments_curriculum(sample, "sample")
    assert (len(curriculum.skills), len(curriculum.items)) == (74, 1113)
    assert [item.id for item in curriculum.items] == sorted(curriculum.item_index, key=int)
    assert len(History.from_interactions(read_assistments(sample), curriculum)) == 1210
