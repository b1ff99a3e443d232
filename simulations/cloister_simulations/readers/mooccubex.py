"""MOOCCubeX: enrolments in the courses of XuetangX (Yu et al., CIKM 2021).

The file is ``enrolments.zip``: ``train.txt`` and ``test.txt``, a line a learner with their courses,
and ``kg_final.txt``, triples of numbers in which relation 1 leads from a course to its school.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cloister_client.importing.table import bad_line
from cloister_shared.errors import DataError
from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    faults_named,
    learner_records,
    positions,
    published_curriculum,
)

FILES = ("train.txt", "test.txt", "kg_final.txt")
PROVIDED_BY = 1
"""The relation from a course to its school."""
Courses = dict[int, list[int]]


def read(directory: Path) -> Dataset:
    """The data set in ``directory``: a learner's courses in order, the held-out one last.

    Courses are items, each a skill of its own, and every enrolment counts as right. A learner's
    institution is the provider of their first course with a known one, the held-out course left
    aside; of several providers of a course, the one with the lowest number.

    As published, each line of ``train.txt`` ends with the number of the learner's held-out course
    without its last digit: a piece of text that was cut off, which gives the answer away. Where
    all lines do, that number is left out.
    """
    train, test, triples = _texts(directory / "enrolments.zip")
    enrolled, held_out = _courses("train.txt", train), _held_out(_courses("test.txt", test))
    if enrolled.keys() != held_out.keys():
        raise DataError("train.txt and test.txt of MOOCCubeX are not of the same learners")
    table = _table(_without_cut_number(enrolled, held_out), held_out, _schools(triples))
    courses = positions(table["item"])
    return Dataset(
        name="mooccubex",
        curriculum=published_curriculum("mooccubex", table),
        learners=learner_records(table, courses, courses[:, None]),
    )


def _texts(path: Path) -> list[str]:
    try:
        with faults_named(path), zipfile.ZipFile(path) as archive:
            return [archive.read(name).decode("ascii") for name in FILES]
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path} is not a zip file with {', '.join(FILES)}") from error


def _numbers(name: str, text: str) -> list[list[int]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            rows.append([int(cell) for cell in line.split()])
        except ValueError as error:
            raise bad_line(Path(name), number, "a cell is not a whole number") from error
        if len(rows[-1]) < 2:
            raise bad_line(Path(name), number, "found fewer than two numbers")
    return rows


def _courses(name: str, text: str) -> Courses:
    """Each learner's courses; a learner on two lines is a ``DataError``."""
    rows = _numbers(name, text)
    courses = {learner: own for learner, *own in rows}
    if len(courses) < len(rows):
        raise DataError(f"a learner stands on two lines of {name}")
    return courses


def _held_out(courses: Courses) -> dict[int, int]:
    if any(len(own) > 1 for own in courses.values()):
        raise DataError("a line of test.txt has more than one held-out course")
    return {learner: own[0] for learner, own in courses.items()}


def _schools(text: str) -> dict[int, int]:
    """The school of each course that has one; the lowest number of several."""
    triples = _numbers("kg_final.txt", text)
    if any(len(triple) != 3 for triple in triples):
        raise DataError("a line of kg_final.txt is not a triple")
    pairs = [(course, school) for course, relation, school in triples if relation == PROVIDED_BY]
    return dict(sorted(pairs, reverse=True))


def _without_cut_number(enrolled: Courses, held_out: Mapping[int, int]) -> Courses:
    if all(own[-1] == held_out[learner] // 10 for learner, own in enrolled.items()):
        return {learner: own[:-1] for learner, own in enrolled.items()}
    return enrolled


def _table(
    enrolled: Courses, held_out: Mapping[int, int], schools: Mapping[int, int]
) -> pd.DataFrame:
    """One row an enrolment, each learner's held-out one last."""
    counts = [len(own) + 1 for own in enrolled.values()]
    homes = [_home(own, schools) for own in enrolled.values()]
    items = [course for learner, own in enrolled.items() for course in (*own, held_out[learner])]
    return pd.DataFrame(
        {
            "learner": np.repeat(list(enrolled), counts),
            "item": items,
            "skill": items,
            "correct": np.float32(1),
            "institution": np.repeat(np.array(homes, dtype=object), counts),
        }
    )


def _home(courses: Sequence[int], schools: Mapping[int, int]) -> str | None:
    first = next((schools[course] for course in courses if course in schools), None)
    return None if first is None else f"school-{first}"
