"""Answers on their way in: checked and put under pseudonyms first, then written in one go."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from cloister_client.histories import Interaction, not_in_curriculum
from cloister_client.store.database import chunks, insert
from cloister_client.store.learners import (
    Learner,
    RoleOf,
    TombstoneOf,
    count_answers,
    enrol,
    find,
    set_groups,
)
from cloister_client.store.pseudonyms import Pseudonymizer
from cloister_client.store.tables import interactions
from cloister_client.store.wishes import erased_among
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError

BATCH = 10_000
"""Rows in one INSERT."""

SHOWN = 5
"""Places that are told of each fault."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file's answers; for the institution's own eyes."""

    added: int
    already_there: int
    learners_added: int
    of_erased: int
    """Answers left out because their learner was erased."""


class Row(NamedTuple):
    """An answer as it is kept, but for the learner's number."""

    pseudonym: str
    fingerprint: bytes
    item: int
    skills: str | None
    correct: bool
    when: float


class Prepared(NamedTuple):
    """Answers as rows, and by pseudonym the groups of those learners for whom one was named."""

    rows: list[Row]
    groups: dict[str, str]


def prepare(
    answers: Iterable[Interaction],
    curriculum: Curriculum,
    keys: Pseudonymizer,
    vocabulary: Collection[str] = (),
) -> Prepared:
    """All answers as rows; a ``DataError`` tells all faults at once and where the first stand.

    ``vocabulary`` holds the groups that learners may be in.
    """
    pseudonyms: dict[str, str] = {}
    groups: dict[str, str] = {}
    rows = []
    faults: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, answer in enumerate(answers, start=1):
        pseudonym = pseudonyms.get(answer.learner) or keys.pseudonym(answer.learner)
        pseudonyms[answer.learner] = pseudonym
        fault = _fault(answer, curriculum) or _group_fault(answer, pseudonym, vocabulary, groups)
        if fault:
            unit, place = ("answer", number) if answer.line is None else ("line", answer.line)
            faults[fault, unit].append(place)
        else:
            rows.append(_row(answer, pseudonym, curriculum, keys))
    if faults:
        told = [f"{_places(unit, where)}: {fault}" for (fault, unit), where in faults.items()]
        raise DataError(f"{'; '.join(told)}; nothing was imported")
    return Prepared(rows, groups)


def write(
    connection: Connection,
    prepared: Prepared,
    cohort: str,
    role_of: RoleOf,
    tombstone_of: TombstoneOf,
) -> ImportReport:
    """Add the answers that are not there yet, the learners who gave them, and their groups."""
    rows = prepared.rows
    pseudonyms = list(dict.fromkeys(row.pseudonym for row in rows))
    erased = erased_among(connection, pseudonyms, tombstone_of)
    admitted = [pseudonym for pseudonym in pseudonyms if pseudonym not in erased]
    new = enrol(connection, admitted, cohort, role_of, tombstone_of)
    enrolled = find(connection, admitted)
    kept = [row for row in rows if row.pseudonym not in erased]
    _insert(connection, kept, enrolled)
    set_groups(connection, prepared.groups)
    count_answers(connection, [learner.number for learner in enrolled.values()])
    added = _answers(find(connection, admitted)) - _answers(enrolled)
    return ImportReport(added, len(kept) - added, new, len(rows) - len(kept))


def _fault(answer: Interaction, curriculum: Curriculum) -> str | None:
    """What is wrong with an answer, None if nothing is; nothing that stands in it is repeated."""
    if not answer.learner:
        return "the learner's id is empty"
    if not math.isfinite(answer.when):
        return "the time is not a finite number of seconds"
    if answer.item not in curriculum.item_index:
        return not_in_curriculum("item", curriculum)
    if not curriculum.skill_index.keys() >= set(answer.skills):
        return not_in_curriculum("skill", curriculum)
    return None


def _group_fault(
    answer: Interaction, pseudonym: str, vocabulary: Collection[str], groups: dict[str, str]
) -> str | None:
    """What is wrong with the group that an answer names, if it names any; else it is kept."""
    if answer.group is None:
        return None
    if answer.group not in vocabulary:
        return "the group is not one of groups in node.yaml: add it there, or map no group column"
    if groups.setdefault(pseudonym, answer.group) != answer.group:
        return "the learner's group is another than before; a learner is in one group"
    return None


def _places(unit: str, numbers: Sequence[int]) -> str:
    """The first few places in words, and how many more there are."""
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    plural = "s" if len(numbers) > 1 else ""
    return f"{unit}{plural} {', '.join(map(str, numbers[:SHOWN]))}{more}"


def _row(answer: Interaction, pseudonym: str, curriculum: Curriculum, keys: Pseudonymizer) -> Row:
    item = curriculum.item_index[answer.item]
    correct, when = bool(answer.correct), float(answer.when)
    fields = (answer.item, str(int(correct)), repr(when), answer.key, *answer.skills)
    return Row(
        pseudonym,
        keys.fingerprint(*fields),
        item,
        _own_skills(answer, curriculum.items[item].skills, curriculum),
        correct,
        when,
    )


def _own_skills(answer: Interaction, usual: tuple[str, ...], curriculum: Curriculum) -> str | None:
    """Positions of the skills, separated by blanks; None where they are the item's usual ones."""
    if not answer.skills or answer.skills == usual:
        return None
    return " ".join(str(curriculum.skill_index[skill]) for skill in answer.skills)


def _insert(connection: Connection, rows: Sequence[Row], enrolled: Mapping[str, Learner]) -> None:
    statement = insert(connection, interactions).on_conflict_do_nothing()
    for chunk in chunks(rows, BATCH):
        connection.execute(
            statement,
            [
                {
                    "learner_id": enrolled[row.pseudonym].number,
                    "fingerprint": row.fingerprint,
                    "item": row.item,
                    "skills": row.skills,
                    "correct": row.correct,
                    "when": row.when,
                }
                for row in chunk
            ],
        )


def _answers(enrolled: Mapping[str, Learner]) -> int:
    return sum(learner.answers for learner in enrolled.values())
