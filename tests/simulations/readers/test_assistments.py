"""The readers on small files of the published form."""

import gzip
from pathlib import Path

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.dataset import data_directory
from cloister_simulations.readers import (
    assistments2009,
    assistments2015,
    assistments2017,
    assistments2017_original,
    pykt,
)

HEADER_2009 = "user_id,fold,pos,problem_id,skill_idx,skill_name,correct"
HEADER_2017 = "student_id,school_id,fold,pos,problem_id,skill_idx,skill_name,correct"
HEADER_2015 = "fold,uid,concepts,responses"


def pack(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))


def write_2009(folder: Path) -> Path:
    pack(
        folder,
        "interactions.csv.gz",
        HEADER_2009,
        "8,2,0,100,1,Mean,1",
        "8,2,1,100,2,Mode,1",
        "8,2,2,9,2,Mode,0",
        "7,1,0,9,2,Mode,1",
        "7,1,1,9,2,Mode,0",
    )
    return folder


def test_one_by_one_keeps_every_row_a_step(tmp_path: Path) -> None:
    dataset = assistments2009.read(write_2009(tmp_path))
    first, second = dataset.learners
    assert (first.key, first.fold, second.key) == ("8", 2, "7")
    assert first.history.items.tolist() == [1, 1, 0]
    assert first.history.skills.tolist() == [[0], [1], [1]]
    assert first.history.when.tolist() == [0, 1, 2]
    assert second.history.correct.tolist() == [1, 0]


def test_together_makes_one_answer_of_a_question_with_several_skills(tmp_path: Path) -> None:
    dataset = assistments2009.read(write_2009(tmp_path), skills="together")
    first, second = dataset.learners
    assert first.history.skills.tolist() == [[0, 1], [1, -1]]
    assert first.history.correct.tolist() == [1, 0]
    assert second.history.items.tolist() == [0, 0], "the same skill again is another answer"


def test_the_same_question_at_the_end_of_one_learner_and_the_start_of_the_next_is_two_answers(
    tmp_path: Path,
) -> None:
    dataset = assistments2009.read(write_2009(tmp_path), skills="together")
    assert [len(learner.history) for learner in dataset.learners] == [2, 2]


def test_an_item_needs_its_most_frequent_skill_first(tmp_path: Path) -> None:
    rows = ["1,1,0,5,1,Mean,1", "1,1,1,5,2,Mode,1", "2,1,0,5,2,Mode,1"]
    pack(tmp_path, "interactions.csv.gz", HEADER_2009, *rows)
    (item,) = assistments2009.read(tmp_path).curriculum.items
    assert item.skills == ("Mode", "Mean")


def test_the_school_is_the_institution_and_may_be_unknown(tmp_path: Path) -> None:
    rows = ["1,,1,0,5,1,mean,1", "2,3.0,4,0,6,2,mode,0", "2,3.0,4,1,5,2,mode,1"]
    pack(tmp_path, "interactions.csv.gz", HEADER_2017, *rows)
    everyone = assistments2017.read(tmp_path)
    assert [learner.institution for learner in everyone.learners] == [None, "school-3"]
    known = everyone.learners[1]
    assert known.history.items.tolist() == [1, 0]
    assert known.history.skills.tolist() == [[1], [1]]
    assert known.key == "2"


def test_a_line_of_lists_becomes_a_history(tmp_path: Path) -> None:
    pack(tmp_path, "train_valid.csv.gz", HEADER_2015, '0,16,"10,2,10","0,1,1"')
    pack(tmp_path, "test.csv.gz", HEADER_2015 + ",cidxs", '-1,17,"2","1","0"')
    dataset = assistments2015.read(tmp_path)
    train, test = dataset.learners
    assert [item.id for item in dataset.curriculum.items] == ["2", "10"]
    assert train.history.items.tolist() == [1, 0, 1]
    assert train.history.correct.tolist() == [0, 1, 1]
    assert (train.fold, test.fold) == (0, pykt.TEST_FOLD)


def write_2017_original(folder: Path, *rows: str) -> Path:
    header = "studentId,MiddleSchoolId,InferredGender,startTime,skill,problemId,correct,original"
    path = folder / "anonymized_full_release_competition_dataset.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return folder


def test_the_competitions_own_file_is_put_in_order_of_time(tmp_path: Path) -> None:
    write_2017_original(
        tmp_path,
        "8,2,Male,1096470350,ratio,76429,1,1",
        "9,3,Female,1096470301,noskill,76430,0,1",
        "8,2,Male,1096470340,mean,76430,0,1",
        "8,2,Male,1096470340,mean,76429,1,1",
    )
    dataset = assistments2017_original.read(tmp_path)
    nine, eight = dataset.learners
    assert [skill.id for skill in dataset.curriculum.skills] == ["mean", "noskill", "ratio"]
    assert (eight.key, eight.institution, eight.fold) == ("8", "school-2", None)
    assert (nine.key, nine.institution) == ("9", "school-3")
    assert eight.history.items.tolist() == [1, 0, 0]
    assert eight.history.skills.tolist() == [[0], [0], [2]]
    assert eight.history.correct.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("8,2,Male,x,mean,76429,1,1", "line 3: the when is not a whole number"),
        ("8,2,Male,1096470340,mean,,1,1", "line 3: the item is not a whole number"),
        ("8,2,Male,1096470340,,76429,1,1", "line 3: the skill is missing"),
        ("8,2,Male,1096470340,mean,76429,0.5,1", "line 3: the answer is neither"),
        (",2,Male,1096470340,mean,76429,1,1", "line 3: the learner is missing"),
    ],
)
def test_a_bad_line_of_the_competitions_file_is_named(
    tmp_path: Path, row: str, expected: str
) -> None:
    write_2017_original(tmp_path, "8,2,Male,1096470350,ratio,76429,1,1", row)
    with pytest.raises(DataError, match=expected):
        assistments2017_original.read(tmp_path)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("8,2,0,100,1,Mean,2", "line 2: the answer is neither right"),
        ("8,2,0,p,1,Mean,1", "line 2: the item is not a whole number"),
        ("8,,0,100,1,Mean,1", "line 2: the fold is not a whole number"),
    ],
)
def test_a_row_that_is_no_answer_is_refused(tmp_path: Path, row: str, expected: str) -> None:
    pack(tmp_path, "interactions.csv.gz", HEADER_2009, row)
    with pytest.raises(DataError, match=expected):
        assistments2009.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"interactions\.csv\.gz is missing"):
        assistments2009.read(tmp_path)


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    pack(tmp_path, "interactions.csv.gz", "a,b", "1,2")
    with pytest.raises(DataError, match="is not the published file"):
        assistments2017.read(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_2009(tmp_path) / "interactions.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="is not the published file"):
        assistments2009.read(tmp_path)


def test_the_data_directory_is_the_one_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_DATA", str(tmp_path))
    assert data_directory() == tmp_path
    monkeypatch.setenv("CLOISTER_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match="set CLOISTER_DATA"):
        data_directory()
