"""MovieLens in both of its forms."""

from pathlib import Path

import pytest

from cloister_shared.errors import DataError
from cloister_simulations.readers import movielens


@pytest.mark.parametrize(
    ("name", "separator", "read"),
    [("u.data", "\t", movielens.read_100k), ("ratings.dat", "::", movielens.read_1m)],
)
def test_ratings_are_put_in_order_of_time_and_liked_from_four_on(
    tmp_path: Path, name: str, separator: str, read: movielens.Reader
) -> None:
    rows = [(196, 242, 3, 881250949), (22, 377, 1, 878887116), (196, 51, 4, 881250900)]
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    dataset = read(tmp_path)
    first, second = dataset.learners
    assert [item.id for item in dataset.curriculum.items] == ["51", "242", "377"]
    assert (first.key, second.key, second.institution, second.fold) == ("22", "196", None, None)
    assert second.history.items.tolist() == [0, 1]
    assert second.history.skills.tolist() == [[0], [1]]
    assert second.history.correct.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("196\t242\t6\t881250949", "line 2: the rating is not from 1 to 5"),
        ("196\t242\t3.5\t881250949", "line 2: the rating is not a whole number"),
        ("196\t242\t3", "line 2: the when is not a whole number"),
        ("196,242,3,881250949", "line 2: the rating is not a whole number"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "u.data").write_text(f"1\t1\t5\t881250949\n{line}\n")
    with pytest.raises(DataError, match=expected):
        movielens.read_100k(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ratings\.dat is missing"):
        movielens.read_1m(tmp_path)
