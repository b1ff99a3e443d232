"""What the readers of published files share: a table of answers becomes curriculum and records.

The table has one row per answer and skill, in time order within a learner, with the columns
``learner``, ``item`` and ``skill`` (numbers), ``skill_name``, ``correct`` and ``fold``.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError
from cloister_simulations.dataset import LearnerRecord


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The named columns of a published CSV file, renamed; ``DataError`` if it is not that file."""
    try:
        table = pd.read_csv(path, usecols=list(columns))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: put the published file there") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is not the published file: {error}") from error
    return table.rename(columns=dict(columns))


def published_curriculum(name: str, table: pd.DataFrame) -> Curriculum:
    """Skills and items in the order of their published numbers; a skill's id is its name.

    An item needs the skills that it is published with, the most frequent first.
    """
    names = table.drop_duplicates("skill").set_index("skill")["skill_name"].sort_index()
    pairs = table.groupby(["item", "skill"]).size().reset_index(name="rows")
    pairs = pairs.sort_values(["item", "rows", "skill"], ascending=[True, False, True])
    skills_of: dict[int, list[str]] = {}
    for item, skill in zip(pairs["item"], names[pairs["skill"]], strict=True):
        skills_of.setdefault(item, []).append(skill)
    return Curriculum(
        name=name,
        skills=tuple(Skill(id=skill, name=skill) for skill in names),
        items=tuple(Item(id=str(item), skills=tuple(own)) for item, own in skills_of.items()),
    )


def positions(numbers: pd.Series) -> NDArray[np.int32]:
    """(n,) rank of each published number among the distinct ones: its curriculum position."""
    return np.unique(numbers, return_inverse=True)[1].astype(np.int32)


def learner_records(
    table: pd.DataFrame, items: NDArray[np.int32], skills: NDArray[np.int32]
) -> tuple[LearnerRecord, ...]:
    """One record a learner, in order of appearance; a history's ``when`` counts its answers.

    ``items`` (n,) and ``skills`` (n, m) are the rows' positions; an ``institution`` column is
    used where there is one.
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
    homes = first_rows.get("institution", pd.Series([None] * len(starts)))
    return tuple(
        LearnerRecord(
            key=str(key),
            history=whole[start:end],
            institution=home if isinstance(home, str) else None,
            fold=int(fold),
        )
        for start, end, key, home, fold in zip(
            starts,
            [*starts[1:], len(order)],
            first_rows["learner"],
            homes,
            first_rows["fold"],
            strict=True,
        )
    )
