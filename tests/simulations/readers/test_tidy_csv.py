import json
from pathlib import Path

import pytest

from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import CloisterError, ConfigError, DataError
from cloister_simulations.readers import READERS

COLUMNS = {
    "learner": "student",
    "item": "problem",
    "correct": "ok",
    "skill": "skill",
    "when": "at",
    "institution": "school",
    "fold": "fold",
}
ROWS = [
    "bo,p2,1,mode,2025-09-05,east,2",
    "al,p1,0,mean;mode,2025-09-02,west,1",
    "bo,p1,1,,2025-09-03,east,",
]


def write(folder: Path, rows: list[str], columns: dict[str, str] | None = None) -> Path:
    header = "student,problem,ok,skill,at,school,fold"
    (folder / "interactions.csv").write_text("\n".join([header, *rows, ""]))
    (folder / "columns.json").write_text(json.dumps(columns or COLUMNS))
    return folder


def test_answers_are_ordered_by_time_and_learners_have_their_home(tmp_path: Path) -> None:
    dataset = READERS["table"](write(tmp_path, ROWS))
    bo, al = dataset.learners
    assert dataset.name == tmp_path.name
    assert (bo.key, bo.institution, bo.fold) == ("bo", "east", 2)
    assert (al.key, al.institution, al.fold) == ("al", "west", 1)
    assert bo.history.items.tolist() == [0, 1]
    assert bo.history.skills.tolist() == [[0, 1], [1, -1]]


def test_a_curriculum_beside_the_answers_is_used(tmp_path: Path) -> None:
    curriculum = Curriculum(
        name="own",
        skills=(Skill(id="mode"), Skill(id="mean")),
        items=(Item(id="p1", skills=("mean",)), Item(id="p2", skills=("mode",))),
    )
    curriculum.save(tmp_path / "curriculum.json")
    dataset = READERS["table"](write(tmp_path, ROWS))
    assert dataset.curriculum.digest == curriculum.digest


def test_institution_and_fold_may_be_absent(tmp_path: Path) -> None:
    columns = {name: COLUMNS[name] for name in ("learner", "item", "correct", "skill")}
    dataset = READERS["table"](write(tmp_path, ROWS, columns))
    assert {(one.institution, one.fold) for one in dataset.learners} == {(None, None)}


@pytest.mark.parametrize(
    ("rows", "error", "expected"),
    [
        (
            [*ROWS, "al,p1,1,mean,2025-09-09,east,1"],
            DataError,
            "line 5: the learner had another school",
        ),
        ([*ROWS, "cy,p1,1,mean,2025-09-09,east,x"], DataError, "a fold is not a whole number"),
        (
            ["al,p3,1,,2025-09-09,east,1"],
            DataError,
            r"items without a skill: put a curriculum\.json",
        ),
        ([], DataError, "holds a header and no rows"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, rows: list[str], error: type[CloisterError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        READERS["table"](write(tmp_path, rows))


def test_the_columns_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the columns"):
        READERS["table"](tmp_path)
    with pytest.raises(ConfigError, match="item: Field required"):
        READERS["table"](write(tmp_path, ROWS, {"learner": "student"}))
