import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.importing import ColumnMap, Tally
from cloister_client.importing.csv_table import read_csv
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError

PLAIN = ColumnMap(learner="student", item="problem", correct="ok")
TIMED = ColumnMap(learner="student", item="problem", correct="ok", skill="skills", when="at")
NOON = 1_757_332_800.0
TABLE = "student,problem,ok,skills,at\nann,p1,1,add;carry,1757332800\nbob,p2,0,add,1757332800.5\n"


def write(folder: Path, text: str | bytes, name: str = "answers.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_are_taken_by_their_names(tmp_path: Path) -> None:
    first, second = read_csv(write(tmp_path, TABLE), TIMED)
    assert (first.learner, first.item, first.correct) == ("ann", "p1", True)
    assert (first.skills, first.when) == (("add", "carry"), NOON)
    assert (second.correct, second.skills, second.when) == (False, ("add",), NOON + 0.5)


@pytest.mark.parametrize(
    "encoded",
    [TABLE.encode(), TABLE.encode("utf-8-sig"), gzip.compress(TABLE.encode("utf-8-sig"))],
    ids=["plain", "byte order mark", "gzip"],
)
def test_every_packing_gives_the_same_interactions(tmp_path: Path, encoded: bytes) -> None:
    expected = list(read_csv(write(tmp_path, TABLE), TIMED))
    assert list(read_csv(write(tmp_path, encoded, "other"), TIMED)) == expected


def test_without_a_clock_the_rows_order_the_answers(tmp_path: Path) -> None:
    assert [one.when for one in read_csv(write(tmp_path, TABLE), PLAIN)] == [0.0, 1.0]


def test_without_a_skill_column_the_curriculum_gives_the_skills(tmp_path: Path) -> None:
    curriculum = Curriculum(
        name="tiny",
        skills=(Skill(id="add"),),
        items=tuple(Item(id=name, skills=("add",)) for name in ("p1", "p2")),
    )
    history = History.from_interactions(read_csv(write(tmp_path, TABLE), PLAIN), curriculum)
    assert history.skills.tolist() == [[0], [0]]


@pytest.mark.parametrize("moment", ["1990-01-02T00:00:00Z", "1990-01-02", "1990-01-02T01:00+01:00"])
def test_a_time_may_be_iso_8601_and_is_utc_without_a_zone(tmp_path: Path, moment: str) -> None:
    path = write(tmp_path, f"student,problem,ok,skills,at\nann,p1,1,add,{moment}\n")
    assert next(read_csv(path, TIMED)).when == 631_238_400.0


def test_the_tally_counts_what_was_drawn(tmp_path: Path) -> None:
    tally = Tally()
    reading = read_csv(write(tmp_path, TABLE), TIMED, tally)
    next(reading)
    assert tally.rows == 1
    assert len(list(reading)) == 1
    assert tally.rows == 2


answers = st.tuples(st.sampled_from("ab"), st.sampled_from("pq"), st.integers(0, 1))


@given(st.lists(answers, min_size=1, max_size=30))
def test_repeated_answers_stay_as_many_and_are_the_same_when_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    lines = "".join(f"{learner},{item},{ok},s,2025-09-08\n" for learner, item, ok in rows)
    path = write(tmp_path_factory.mktemp("keys"), "student,problem,ok,skills,at\n" + lines)
    interactions = list(read_csv(path, TIMED))
    assert len(set(interactions)) == len(rows)
    assert list(read_csv(path, TIMED)) == interactions


@given(st.lists(answers, min_size=2, max_size=20))
def test_a_longer_export_repeats_the_earlier_one_unchanged(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("longer")
    lines = [f"{learner},{item},{ok}\n" for learner, item, ok in rows]
    earlier = write(folder, "student,problem,ok\n" + "".join(lines[:-1]), "earlier.csv")
    later = write(folder, "student,problem,ok\n" + "".join(lines), "later.csv")
    assert list(read_csv(later, PLAIN))[:-1] == list(read_csv(earlier, PLAIN))


def test_a_key_column_is_used_as_it_is(tmp_path: Path) -> None:
    columns = ColumnMap(learner="student", item="problem", correct="ok", key="at")
    assert [one.key for one in read_csv(write(tmp_path, TABLE), columns)] == [
        "1757332800",
        "1757332800.5",
    ]


HEADER = b"student,problem,ok,skills,at\n"
GZIPPED = gzip.compress(HEADER + b"ann,p1,1,add,2025-09-08\n" * 50)
BROKEN = {
    "no content": (b"", "is empty"),
    "no header": (b"ann,p1,1,s,1\n", "names none of the columns student, problem, ok, skills, at"),
    "column missing": (
        b"student,task,ok,skills\nann,p1,1,s\n",
        "lacks the column problem, at; found: student, task, ok, skills",
    ),
    "label not 0 or 1": (
        HEADER + b"ann,p1,1,s,2025-09-08\nann,p1,yes,s,2025-09-08\n",
        "line 3: the label of an answer must be 0 or 1 (column 'ok')",
    ),
    "label empty": (HEADER + b"ann,p1,,s,1\n", "line 2: the label"),
    "cell missing": (HEADER + b"ann,p1,1,s\n", "line 2: found 4 cells, the header has 5"),
    "learner empty": (HEADER + b",p1,1,s,1\n", "line 2: the column 'student' must not be empty"),
    "header only": (HEADER, "holds a header and no rows"),
    "blank rows only": (HEADER + b",,,,\n\n", "holds a header and no rows"),
    "column twice": (b"student,problem,ok,ok,skills,at\n", "has the column ok twice"),
    "time unreadable": (HEADER + b"ann,p1,1,s,yesterday\n", "line 2: the time is neither"),
    "time in milliseconds": (HEADER + b"ann,p1,1,s,1757332800000\n", "not milliseconds"),
    "date without hyphens": (HEADER + b"ann,p1,1,s,20250908\n", "write it as 2025-09-08"),
    "time of another age": (HEADER + b"ann,p1,1,s,0001-01-01\n", "not between 1990 and 2100"),
    "time not finite": (
        HEADER + b"ann,p1,1,s,nan\n",
        "line 2: the time is not between",
    ),
    "not UTF-8": (HEADER + b"ann,p1,1,\xff,1\n", "is not UTF-8"),
    "huge cell": (HEADER + b"ann,p1,1,s," + b"9" * 200_000, "is not a CSV table"),
    "gzip cut off": (GZIPPED[:-20], "is a damaged gzip file"),
    "gzip checksum wrong": (GZIPPED[:-8] + bytes(8), "is a damaged gzip file"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_with_its_fault_and_no_learner(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        list(read_csv(write(tmp_path, content), TIMED))
    assert "answers.csv" in str(caught.value)
    assert expected in str(caught.value)
    assert "ann" not in str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_cells_too(tmp_path: Path, separator: str) -> None:
    expected = list(read_csv(write(tmp_path, TABLE), PLAIN))
    other = write(tmp_path, TABLE.replace(";", "/").replace(",", separator), "other.csv")
    assert list(read_csv(other, PLAIN)) == expected


def test_rows_without_content_are_skipped_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "student,problem,ok\nann,p1,1\n\n, ,\n,,,,,\nbob,p1,0\n")
    assert [(one.line, one.when) for one in read_csv(path, PLAIN)] == [(2, 0.0), (6, 1.0)]


def test_a_column_that_is_not_asked_for_may_stand_twice(tmp_path: Path) -> None:
    path = write(tmp_path, "student,problem,ok,note,note\nann,p1,1,,\n")
    assert len(list(read_csv(path, PLAIN))) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: No such file"):
        list(read_csv(tmp_path / "nowhere.csv", PLAIN))


def test_a_group_is_taken_from_its_column_and_an_empty_cell_names_none(tmp_path: Path) -> None:
    text = "student,problem,ok,kind\nann,p1,1,A\nbob,p2,0,\n"
    columns = PLAIN.model_copy(update={"group": "kind"})
    assert [one.group for one in read_csv(write(tmp_path, text), columns)] == ["A", None]
    assert [one.group for one in read_csv(write(tmp_path, text), PLAIN)] == [None, None]
