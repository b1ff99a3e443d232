from pathlib import Path

import pytest

from cloister_client.importing import FORMATS, ColumnMap, read
from cloister_shared.errors import ConfigError

COLUMNS = ColumnMap(learner="learner", item="item", correct="correct")


def test_formats_are_known_by_name() -> None:
    assert sorted(FORMATS) == ["assistments", "csv"]


def test_a_table_is_read_by_its_format(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("learner,item,correct\nann,p1,1\n")
    assert [one.item for one in read(path, "csv", COLUMNS)] == ["p1"]


@pytest.mark.parametrize(
    ("format", "columns", "expected"),
    [
        ("xlsx", None, "no file format is called 'xlsx'; known: assistments, csv"),
        ("csv", None, "needs to be told the columns"),
        ("assistments", COLUMNS, "has fixed columns"),
    ],
)
def test_a_wrong_request_is_refused_before_the_file_is_opened(
    tmp_path: Path, format: str, columns: ColumnMap | None, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        read(tmp_path / "absent", format, columns)
