"""Interactions from a CSV table whose columns the institution names."""

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

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
LATEST = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
"""Times outside are taken for mistakes: milliseconds, a date without hyphens, a counter."""

LABELS = {"0": False, "1": True, "0.0": False, "1.0": True}


class ColumnMap(Frozen):
    """Which column of a table holds what; None where the table has no such column.

    Without ``skill`` an item's skills are the curriculum's. ``when`` holds ISO-8601 (without a
    zone: UTC) or seconds since 1970, from 1990 to 2099; without it the position of the row orders
    the answers.
    ``key`` tells equal answers of a learner apart; without it one is derived. ``group`` holds the
    learner's group, a name of the node's public vocabulary, or nothing.
    """

    learner: str
    item: str
    correct: str
    skill: str | None = None
    skill_separator: str = Field(default=";", min_length=1)
    when: str | None = None
    key: str | None = None
    group: str | None = None

    @property
    def optional(self) -> dict[str, str]:
        """Field and column of those optional columns that the table has."""
        pairs = {"skill": self.skill, "when": self.when, "key": self.key, "group": self.group}
        return {name: column for name, column in pairs.items() if column is not None}


class _Cells(NamedTuple):
    """The cells of one row by what they hold; "" where the table has no such column."""

    learner: str
    item: str
    correct: str
    skill: str = ""
    when: str = ""
    key: str = ""
    group: str = ""


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
        for column, cell in _required(columns, cells):
            if not cell:
                raise bad_line(path, row.line, f"the column {column!r} must not be empty")
        correct = label(path, row, cells.correct, columns.correct)
        when = _seconds(path, row, cells.when, columns.when) if columns.when else float(position)
        answer = (cells.learner, cells.item, when, correct)
        yield Interaction(
            learner=cells.learner,
            item=cells.item,
            correct=correct,
            when=when,
            key=cells.key or str(seen[answer]),
            skills=_skills(cells.skill, columns.skill_separator),
            line=row.line,
            group=cells.group or None,
        )
        if not columns.key:
            seen[answer] += 1


def label(path: Path, row: Row, cell: str, column: str) -> bool:
    """Whether the answer was right; anything but 0 or 1 is a ``DataError``."""
    if cell not in LABELS:
        raise bad_line(path, row.line, f"the label of an answer must be 0 or 1 (column {column!r})")
    return LABELS[cell]


def _required(columns: ColumnMap, cells: _Cells) -> Iterator[tuple[str, str]]:
    """Names and cells of the columns in which every row must hold something."""
    yield columns.learner, cells.learner
    yield columns.item, cells.item
    if columns.key:
        yield columns.key, cells.key


def _skills(cell: str, separator: str) -> tuple[str, ...]:
    """The skills of a cell, each once; an empty cell leaves them to the curriculum."""
    names = (name.strip() for name in cell.split(separator))
    return tuple(dict.fromkeys(name for name in names if name))


def _seconds(path: Path, row: Row, cell: str, column: str) -> float:
    """Seconds since 1970 of a number or an ISO-8601 time, both in the years in question."""
    try:
        when = _number_or_iso(cell)
    except ValueError as error:
        raise bad_line(
            path,
            row.line,
            f"the time is neither ISO-8601 nor seconds since 1970 (column {column!r})",
        ) from error
    if not EARLIEST <= when < LATEST:
        raise bad_line(
            path,
            row.line,
            f"the time is not between 1990 and 2100 (column {column!r}): write it as 2025-09-08 or "
            "2025-09-08T09:05:00Z, or in seconds since 1970, not milliseconds",
        )
    return when


def _number_or_iso(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        moment = datetime.fromisoformat(cell)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
