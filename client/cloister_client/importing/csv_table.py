"""Interactions from a CSV table whose columns the institution names."""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from cloister_client.histories import Interaction
from cloister_client.importing.table import Row, bad_line, read_rows
from cloister_client.importing.tally import Tally
from cloister_shared.frozen import Frozen

LABELS = {"0": False, "1": True, "0.0": False, "1.0": True}


class ColumnMap(Frozen):
    """Which column of a table holds what; None where the table has no such column.

    Without ``skill`` an item's skills are the curriculum's. ``when`` holds ISO-8601 (without a
    zone: UTC) or seconds since 1970; without it the position of the row orders the answers.
    ``key`` tells equal answers of a learner apart; without it one is derived.
    """

    learner: str
    item: str
    correct: str
    skill: str | None = None
    skill_separator: str = Field(default=";", min_length=1)
    when: str | None = None
    key: str | None = None

    @property
    def optional(self) -> dict[str, str]:
        """Field and column of those optional columns that the table has."""
        pairs = {"skill": self.skill, "when": self.when, "key": self.key}
        return {name: column for name, column in pairs.items() if column is not None}


class _Cells(NamedTuple):
    """The cells of one row by what they hold; "" where the table has no such column."""

    learner: str
    item: str
    correct: str
    skill: str = ""
    when: str = ""
    key: str = ""


def read_csv(path: Path, columns: ColumnMap, tally: Tally | None = None) -> Iterator[Interaction]:
    """The table's interactions in its own order; a bad cell is a ``DataError`` with its line.

    Rows stream. A derived key counts how often the same answer stood in the file before, so that
    two equal answers stay two and reading the file again changes nothing. Where the table has no
    clock, a longer export must keep the order of the answers that it repeats.
    """
    tally = tally or Tally()
    optional = columns.optional
    seen: Counter[tuple[str, str, float, bool]] = Counter()
    wanted = [columns.learner, columns.item, columns.correct, *optional.values()]
    for position, row in enumerate(read_rows(path, wanted)):
        tally.rows += 1
        cells = _Cells(*row.cells[:3], **dict(zip(optional, row.cells[3:], strict=True)))
        if not cells.learner or not cells.item or (columns.key and not cells.key):
            raise bad_line(path, row.line, "a learner, an item and a key must not be empty")
        correct = label(path, row, cells.correct)
        when = _seconds(path, row, cells.when) if columns.when else float(position)
        answer = (cells.learner, cells.item, when, correct)
        yield Interaction(
            learner=cells.learner,
            item=cells.item,
            correct=correct,
            when=when,
            key=cells.key or str(seen[answer]),
            skills=_skills(cells.skill, columns.skill_separator),
        )
        if not columns.key:
            seen[answer] += 1


def label(path: Path, row: Row, cell: str) -> bool:
    """Whether the answer was right; anything but 0 or 1 is a ``DataError``."""
    if cell not in LABELS:
        raise bad_line(path, row.line, "the label of an answer must be 0 or 1")
    return LABELS[cell]


def _skills(cell: str, separator: str) -> tuple[str, ...]:
    """The skills of a cell, each once; an empty cell leaves them to the curriculum."""
    names = (name.strip() for name in cell.split(separator))
    return tuple(dict.fromkeys(name for name in names if name))


def _seconds(path: Path, row: Row, cell: str) -> float:
    """Seconds since 1970 of a number or an ISO-8601 time."""
    try:
        when = float(cell)
    except ValueError:
        when = _iso_seconds(path, row, cell)
    if not math.isfinite(when):
        raise bad_line(path, row.line, "the time is not a finite number")
    return when


def _iso_seconds(path: Path, row: Row, cell: str) -> float:
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError as error:
        raise bad_line(
            path, row.line, "the time is neither ISO-8601 nor seconds since 1970"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
