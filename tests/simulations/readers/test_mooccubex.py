"""MOOCCubeX's zip file: order, the held-out course, the home, and the number that was cut."""

import zipfile
from pathlib import Path

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.readers import mooccubex

TRAIN = ["0 30 7 210 4", "1 7 999 4", "2 30 999 210 21"]
TEST = ["0 43", "1 41", "2 210"]
TRIPLES = ["7 1 5000", "7 1 4000", "43 1 6000", "210 1 7000", "30 2 8000", "999 3 7"]


def write(
    folder: Path,
    train: list[str] = TRAIN,
    test: list[str] = TEST,
    triples: list[str] = TRIPLES,
) -> Path:
    files = {"train.txt": train, "test.txt": test, "kg_final.txt": triples}
    with zipfile.ZipFile(folder / "enrolments.zip", "w") as archive:
        for name, lines in files.items():
            archive.writestr(name, "\n".join([*lines, ""]))
    return folder


def courses(folder: Path) -> list[list[str]]:
    dataset = mooccubex.read(folder)
    return [
        [dataset.curriculum.items[place].id for place in one.history.items]
        for one in dataset.learners
    ]


def test_the_held_out_course_comes_last_and_its_cut_number_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, TRAIN[:2], TEST[:2])
    assert courses(tmp_path) == [["30", "7", "210", "43"], ["7", "999", "41"]]


def test_a_file_in_which_nothing_was_cut_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, ["0 30 7 4", "1 7 999"], TEST[:2])
    assert courses(tmp_path) == [["30", "7", "4", "43"], ["7", "999", "41"]]


def test_home_is_the_provider_of_the_first_course_that_has_one(tmp_path: Path) -> None:
    write(tmp_path, ["0 30 7 210 4", "1 210 7 4", "2 30 999 4"], ["0 43", "1 41", "2 43"])
    homes = [one.institution for one in mooccubex.read(tmp_path).learners]
    assert homes == ["school-4000", "school-7000", None], "the held-out course has no say"


def test_every_course_is_an_item_and_a_skill_also_one_that_is_only_held_out(tmp_path: Path) -> None:
    dataset = mooccubex.read(write(tmp_path))
    assert [item.id for item in dataset.curriculum.items] == ["7", "30", "41", "43", "210", "999"]
    first = dataset.learners[0]
    assert first.history.skills[:, 0].tolist() == first.history.items.tolist()
    assert first.history.correct.tolist() == [1] * len(first.history)
    assert (first.key, first.fold) == ("0", None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"train": [*TRAIN[:2], "2 x 21"]}, r"train\.txt, line 3: a cell is not a whole number"),
        ({"train": [*TRAIN[:2], "2"]}, r"train\.txt, line 3: found fewer than two numbers"),
        ({"train": [*TRAIN[:2], "1 7 4"]}, r"two lines of train\.txt"),
        ({"train": TRAIN[:2]}, "not of the same learners"),
        ({"test": [*TEST[:2], "2 210 7"]}, "more than one held-out course"),
        ({"triples": ["7 1"]}, "not a triple"),
    ],
)
def test_lines_that_do_not_fit_are_refused(
    tmp_path: Path, lines: dict[str, list[str]], expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        mooccubex.read(write(tmp_path, **lines))


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"enrolments\.zip is missing"):
        mooccubex.read(tmp_path)
    (tmp_path / "enrolments.zip").write_text("PK")
    with pytest.raises(DataError, match="is not a zip file with"):
        mooccubex.read(tmp_path)
    with zipfile.ZipFile(tmp_path / "enrolments.zip", "w") as archive:
        archive.writestr("train.txt", "0 1 2")
    with pytest.raises(DataError, match="is not a zip file with"):
        mooccubex.read(tmp_path)
