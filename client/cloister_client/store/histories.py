"""Histories out of the store, fast: packed arrays stay in memory until their learner answers again.

Rows are the truth. Who is eligible is asked afresh every time; only the arrays are remembered.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, select

from cloister_client.histories import History
from cloister_client.store.database import chunks
from cloister_client.store.tables import interactions, learners
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError

CACHED_ANSWERS = 10_000_000
"""Answers kept in memory at most: about 200 MB."""


class HistoryCache:
    """Histories by learner number, the least recently used dropped first; safe between threads."""

    def __init__(self, answers: int = CACHED_ANSWERS) -> None:
        self._room = answers
        self._histories: OrderedDict[int, History] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int, answers: int) -> History | None:
        """The history of a learner, if it holds all of their ``answers`` answers."""
        with self._lock:
            history = self._histories.get(number)
            if history is None or len(history) != answers:
                return None
            self._histories.move_to_end(number)
            return history

    def put(self, number: int, history: History) -> None:
        """Keep a history in place of an older one."""
        with self._lock:
            self._drop(number)
            self._histories[number] = history
            self._room -= len(history)
            while self._room < 0:
                self._drop(next(iter(self._histories)))

    def forget(self, number: int) -> None:
        """Drop a learner's history."""
        with self._lock:
            self._drop(number)

    def _drop(self, number: int) -> None:
        dropped = self._histories.pop(number, None)
        self._room += 0 if dropped is None else len(dropped)


def load(
    connection: Connection,
    pseudonyms: Sequence[str],
    condition: ColumnElement[bool],
    curriculum: Curriculum,
    cache: HistoryCache,
) -> list[History]:
    """Histories in the order of ``pseudonyms``; an empty one where ``condition`` does not hold."""
    found: dict[str, History] = {}
    stale: dict[int, str] = {}
    for pseudonym, number, answers in _learners(connection, pseudonyms, condition):
        history = cache.get(number, answers)
        if history is None:
            stale[number] = pseudonym
        else:
            found[pseudonym] = history
    for number, history in _read(connection, list(stale), curriculum):
        cache.put(number, history)
        found[stale[number]] = history
    nothing = History.from_interactions([], curriculum)
    return [found.get(pseudonym, nothing) for pseudonym in pseudonyms]


def _learners(
    connection: Connection, pseudonyms: Sequence[str], condition: ColumnElement[bool]
) -> list[tuple[str, int, int]]:
    """Pseudonym, number and number of answers of those whom ``condition`` allows to be read."""
    columns = (learners.c.pseudonym, learners.c.id, learners.c.answers)
    return [
        (pseudonym, number, answers)
        for chunk in chunks(pseudonyms)
        for pseudonym, number, answers in connection.execute(
            select(*columns).where(learners.c.pseudonym.in_(chunk), condition)
        )
    ]


def _read(
    connection: Connection, numbers: Sequence[int], curriculum: Curriculum
) -> list[tuple[int, History]]:
    """Number and history of every learner of ``numbers`` who has answered at all."""
    names = ("learner_id", "id", "item", "skills", "correct", "when")
    columns = [interactions.c[name] for name in names]
    histories = []
    for chunk in chunks(numbers):
        rows = connection.execute(
            select(*columns).where(interactions.c.learner_id.in_(chunk))
        ).all()
        if rows:
            histories += _readable(rows, curriculum)
    return histories


def _readable(rows: Sequence[Any], curriculum: Curriculum) -> list[tuple[int, History]]:
    try:
        return _pack(*zip(*rows, strict=True), curriculum=curriculum)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise DataError(
            "an answer in the store was altered: it cannot be read; restore a backup, or erase "
            "the learner and import again"
        ) from error


def _pack(*columns: tuple[Any, ...], curriculum: Curriculum) -> list[tuple[int, History]]:
    """Columns of many learners' rows as one history each, in the order of time, then arrival."""
    learner, arrival, when = (np.array(columns[position]) for position in (0, 1, 5))
    order = np.lexsort((arrival, when, learner))
    items = np.array(columns[2], dtype=np.int32)
    skills = _skills(items, columns[3], curriculum)
    if items.min() < 0 or skills.max(initial=-1) >= len(curriculum.skills):
        raise ValueError("an item or a skill has no place in the curriculum")
    together = History(
        items=items[order],
        skills=skills[order],
        correct=np.array(columns[4], dtype=np.float32)[order],
        when=when[order],
    )
    numbers, starts = np.unique(learner[order], return_index=True)
    ends = [*starts[1:], len(order)]
    return [
        (int(number), _own_copy(together[start:end]))
        for number, start, end in zip(numbers, starts, ends, strict=True)
    ]


def _skills(
    items: NDArray[np.int32], own: Sequence[str | None], curriculum: Curriculum
) -> NDArray[np.int32]:
    """(n, m) skill positions padded with -1: a row's own where it has any, else its item's."""
    usual = curriculum.item_skills[items]
    given = {row: text.split() for row, text in enumerate(own) if text is not None}
    width = max([usual.shape[1], *map(len, given.values())])
    table = np.full((len(items), width), -1, dtype=np.int32)
    table[:, : usual.shape[1]] = usual
    for row, positions in given.items():
        table[row] = -1
        table[row, : len(positions)] = [int(position) for position in positions]
    return table


def _own_copy(history: History) -> History:
    """A history that keeps no other learner's memory alive, its skills as wide as it needs."""
    width = int((history.skills >= 0).sum(axis=1).max())
    return History(
        items=history.items.copy(),
        skills=history.skills[:, :width].copy(),
        correct=history.correct.copy(),
        when=history.when.copy(),
    )
