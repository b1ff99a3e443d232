"""The original 30-column export of ASSISTments (2009-2010 "skill builder" and its like).

A question with several skills stands there once per skill, under one ``order_id``, and not
always in adjacent rows. ``order_id`` grows with time and is the only clock.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cloister_client.histories import Interaction
from cloister_client.importing.csv_table import label
from cloister_client.importing.table import Row, bad_line, read_rows
from cloister_client.importing.tally import Tally
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError

_COLUMNS = ("order_id", "user_id", "problem_id", "correct", "skill_id", "skill_name")

MOST_ORDER_ID = 2**53


def read_assistments(path: Path, tally: Tally | None = None) -> Iterator[Interaction]:
    """All answers by ``order_id``, one for each, with every skill that its rows name.

    Rows without a skill are skipped and counted. A label other than 0/1, or rows of one
    ``order_id`` that contradict one another, are a ``DataError``.
    """
    tally = tally or Tally()
    answers: dict[int, Interaction] = {}
    for row in read_rows(path, _COLUMNS):
        tally.rows += 1
        skill = _skill(row)
        if not skill:
            tally.without_skill += 1
            continue
        answer = _answer(path, row, skill)
        order = int(answer.key)
        answers[order] = _joined(path, row, answers[order], answer) if order in answers else answer
    yield from (answers[order] for order in sorted(answers))


def assistments_curriculum(path: Path, name: str) -> Curriculum:
    """Skills by name and problems by number, for a consortium to publish.

    Made for a file that is public, as the data set's own is: a curriculum read from one
    institution's answers would tell which problems its learners met.
    """
    skills_of: dict[str, set[str]] = {}
    for row in read_rows(path, _COLUMNS):
        skill, problem = _skill(row), row.cells[2]
        if not problem:
            raise bad_line(path, row.line, "problem_id must not be empty")
        if skill:
            skills_of.setdefault(problem, set()).add(skill)
    if not skills_of:
        raise DataError(f"{path.name} names no skill, so no curriculum can be made of it")
    return Curriculum(
        name=name,
        skills=tuple(
            Skill(id=skill, name=skill) for skill in sorted(set().union(*skills_of.values()))
        ),
        items=tuple(
            Item(id=problem, skills=tuple(sorted(skills_of[problem])))
            for problem in sorted(skills_of, key=lambda problem: (len(problem), problem))
        ),
    )


def _skill(row: Row) -> str:
    """The skill's name; some skills of the export have a number only; "" for none."""
    number, name = row.cells[4:]
    return name or (f"skill {number}" if number else "")


def _answer(path: Path, row: Row, skill: str) -> Interaction:
    order, learner, problem, correct = row.cells[:4]
    number = _order(path, row, order)
    if not learner or not problem:
        raise bad_line(path, row.line, "user_id and problem_id must not be empty")
    return Interaction(
        learner=learner,
        item=problem,
        correct=label(path, row, correct, "correct"),
        when=float(number),
        key=str(number),
        skills=(skill,),
        line=row.line,
    )


def _order(path: Path, row: Row, cell: str) -> int:
    """The whole number of a cell; above 2^53 two of them could be the same time."""
    digits = cell.isascii() and cell.isdigit() and len(cell) <= len(str(MOST_ORDER_ID))
    if not digits or int(cell) > MOST_ORDER_ID:
        raise bad_line(path, row.line, "order_id must be a whole number up to 2^53")
    return int(cell)


def _joined(path: Path, row: Row, answer: Interaction, further: Interaction) -> Interaction:
    """One answer of two rows with the same ``order_id``; a skill that stands twice counts once."""
    skills = tuple(dict.fromkeys(answer.skills + further.skills))
    joined = replace(answer, skills=skills)
    if joined != replace(further, skills=skills):
        raise bad_line(path, row.line, "contradicts an earlier row of the same order_id")
    return joined
