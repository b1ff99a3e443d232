"""What the readers of published files share: a table of answers becomes curriculum and records.

The table has one row per answer and skill, in time order within a learner, with the columns
``learner``, ``item``, ``skill`` and ``correct`` (0 or 1), and as the data set has them
``skill_name``, ``institution`` and ``fold``; items, skills and folds are whole numbers.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.importing.table import bad_line
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError
from cloister_simulations.dataset import LearnerRecord

WHOLE_NUMBERS = ("item", "skill", "fold")


def published_file(directory: Path, name: str) -> Path:
    """The file ``name`` in ``directory``, or the same packed with gzip where that is there."""
    packed = directory / f"{name}.gz"
    return packed if packed.exists() else directory / name


def read_answers(path: Path, columns: Mapping[str, str], **options: Any) -> pd.DataFrame:
    """:func:`read_table` of a file with one answer a row, its numbers checked."""
    return checked_answers(path, read_table(path, columns, **options))


def read_table(
    path: Path, columns: Mapping[str, str], optional: Collection[str] = (), **options: Any
) -> pd.DataFrame:
    """The named columns of a published CSV file, renamed; ``DataError`` if it is not that file.

    The index is the line of the file. Columns in ``optional`` may be absent; further ``options``
    are those of ``pandas.read_csv``.
    """
    with faults_named(path):
        table = pd.read_csv(path, usecols=lambda name: name in columns, **options)
    table.index += 1 if "names" in options else 2
    missing = [name for name in columns if name not in table and name not in optional]
    if missing:
        raise DataError(f"{path} is not the published file: it lacks {', '.join(missing)}")
    return table.rename(columns=dict(columns))


@contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Turn what reading a published file can raise into a ``DataError``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: put the published file there") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is not the published file: {error}") from error


def checked_answers(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with numbers where numbers belong; ``DataError`` that names the first bad line."""
    checked = table.copy(deep=False)
    for name in [name for name in WHOLE_NUMBERS if name in table]:
        checked[name] = whole_numbers(path, table, name)
    correct = pd.to_numeric(table["correct"], errors="coerce")
    refuse_lines(path, ~correct.isin([0, 1]), "the answer is neither right (1) nor wrong (0)")
    checked["correct"] = correct.astype("float32")
    refuse_lines(path, table["learner"].isna(), "the learner is missing")
    return checked


def whole_numbers(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """A column as int64; ``DataError`` that names the first line where it is no whole number."""
    numbers = pd.to_numeric(table[name], errors="coerce")
    refuse_lines(path, ~(numbers % 1 == 0), f"the {name} is not a whole number")
    return numbers.astype("int64")


def refuse_lines(path: Path, bad: pd.Series, what: str) -> None:
    """Raise ``DataError`` for the first line, the index, at which ``bad`` is true, if any is."""
    if bad.any():
        raise bad_line(path, int(bad.idxmax()), what)


def published_curriculum(name: str, table: pd.DataFrame) -> Curriculum:
    """Skills and items in the order of their published numbers.

    A skill's id is its name where there is one, else its number. An item needs the skills that it
    is published with, the most frequent first.
    """
    named = "skill_name" if "skill_name" in table else "skill"
    names = table.drop_duplicates("skill").set_index("skill", drop=False)[named].sort_index()
    pairs = table.groupby(["item", "skill"]).size().reset_index(name="rows")
    pairs = pairs.sort_values(["item", "rows", "skill"], ascending=[True, False, True])
    skills_of: dict[int, list[str]] = {}
    for item, skill in zip(pairs["item"], names[pairs["skill"]], strict=True):
        skills_of.setdefault(item, []).append(str(skill))
    return Curriculum(
        name=name,
        skills=tuple(Skill(id=str(skill), name=str(skill)) for skill in names),
        items=tuple(Item(id=str(item), skills=tuple(own)) for item, own in skills_of.items()),
    )


def positions(numbers: pd.Series) -> NDArray[np.int32]:
    """(n,) rank of each published number among the distinct ones: its curriculum position."""
    return np.unique(numbers, return_inverse=True)[1].astype(np.int32)


def learner_records(
    table: pd.DataFrame, items: NDArray[np.int32], skills: NDArray[np.int32]
) -> tuple[LearnerRecord, ...]:
    """One record a learner, in order of appearance; a history's ``when`` counts its answers.

    ``items`` (n,) and ``skills`` (n, m) are the rows' positions; the columns ``institution`` and
    ``fold`` are used where they are, from a learner's first row.
    """
    learners = pd.factorize(table["learner"])[0]
    order = np.argsort(learners, kind="stable")
    starts = np.flatnonzero(np.diff(learners[order], prepend=-1))
    whole = History(
        items[order],
        skills[order],
        table["correct"].to_numpy(np.float32)[order],
        (np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))).astype(float),
    )
    first_rows = table.iloc[order[starts]]
    nothing = pd.Series([None] * len(starts))
    return tuple(
        LearnerRecord(
            key=str(key),
            history=whole[start:end],
            institution=home if isinstance(home, str) else None,
            fold=None if fold is None else int(fold),
        )
        for start, end, key, home, fold in zip(
            starts,
            [*starts[1:], len(order)],
            first_rows["learner"],
            first_rows.get("institution", nothing),
            first_rows.get("fold", nothing),
            strict=True,
        )
    )
