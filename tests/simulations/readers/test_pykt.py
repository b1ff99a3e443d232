"""The lists of pyKT: whole learners or stretches of them, with and without questions."""

import gzip
from pathlib import Path

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.readers import READERS

WHOLE = "fold,uid,questions,concepts,responses,is_repeat"
STRETCHES = "fold,uid,concepts,responses,selectmasks"


def write(folder: Path, suffix: str, train: list[str], test: list[str]) -> Path:
    for part, lines in (("train_valid", train), ("test", test)):
        (folder / f"{part}{suffix}.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_questions_are_the_items_and_their_concepts_are_steps(tmp_path: Path) -> None:
    write(
        tmp_path,
        "",
        [WHOLE, '3,u1,"7,7,5","1,4,1","1,1,0","0,1,0"'],
        [WHOLE, '-1,u2,"5,7,5","1,4,1","0,0,1","0,0,0"'],
    )
    dataset = READERS["pykt"](tmp_path)
    train, test = dataset.learners
    assert dataset.name == tmp_path.name
    assert [(one.id, one.skills) for one in dataset.curriculum.items] == [
        ("5", ("1",)),
        ("7", ("4", "1")),
    ]
    assert (train.key, train.fold, test.key, test.fold) == ("u1", 3, "u2", -1)
    assert train.history.items.tolist() == [1, 1, 0]
    assert train.history.skills.tolist() == [[0], [1], [0]]
    assert test.history.correct.tolist() == [0, 0, 1]


def test_the_stretches_of_a_learner_are_joined_without_their_padding(tmp_path: Path) -> None:
    write(
        tmp_path,
        "_sequences",
        [STRETCHES, '0,u1,"3,4","1,0","1,1"', '0,u1,"4,-1","1,-1","1,-1"'],
        [STRETCHES, '-1,u2,"4,3","1,1","1,1"'],
    )
    train, test = READERS["pykt"](tmp_path).learners
    assert train.history.items.tolist() == [0, 1, 1]
    assert train.history.correct.tolist() == [1, 0, 1]
    assert len(test.history) == 2


def test_padding_is_left_out_where_no_mask_marks_it(tmp_path: Path) -> None:
    plain = "fold,uid,concepts,responses"
    write(tmp_path, "", [plain, '0,u1,"3,-1","1,-1"'], [plain, '-1,u2,"3","0"'])
    assert [len(one.history) for one in READERS["pykt"](tmp_path).learners] == [1, 1]


def test_whole_lists_go_before_their_stretches_and_may_be_packed(tmp_path: Path) -> None:
    write(tmp_path, "_sequences", ["no"], ["lists"])
    whole = "fold,uid,concepts,responses\n{},u{},3,1\n"
    for fold, part in ((0, "train_valid"), (-1, "test")):
        packed = gzip.compress(whole.format(fold, fold).encode())
        (tmp_path / f"{part}.csv.gz").write_bytes(packed)
    assert [one.fold for one in READERS["pykt"](tmp_path).learners] == [0, -1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('-1,u1,"2","2","1","0"', "stands in two folds"),
        ('-1,u2,"2,3","2","1","0"', r"test\.csv: the lists of a line are not of one length"),
        ('-1,u2,"2,3","2,x","1,1","0,0"', r"test\.csv, line 2: the skill is not a whole number"),
        ('-1,u2,"2,3","2,2","1,3","0,0"', r"line 2: the answer is neither right \(1\) nor wrong"),
        ('x,u2,"2","2","1","0"', "line 2: the fold is not a whole number"),
        (',u2,"2","2","1","0"', "line 2: the fold is not a whole number"),
        ('-1,,"2","2","1","0"', "line 2: the learner is missing"),
        ('-1,u2,"2","2",,"0"', "line 2: the answer is neither right"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(
    tmp_path: Path, line: str, expected: str
) -> None:
    write(tmp_path, "", [WHOLE, '0,u1,"2","2","1","0"'], [WHOLE, line])
    with pytest.raises(DataError, match=expected) as caught:
        READERS["pykt"](tmp_path)
    assert "u1" not in str(caught.value)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_valid\.csv is missing"):
        READERS["pykt"](tmp_path)
    write(tmp_path, "", ["fold,uid,responses", "0,u1,1"], [])
    with pytest.raises(DataError, match="it lacks concepts"):
        READERS["pykt"](tmp_path)
