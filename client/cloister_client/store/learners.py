"""The learners of a store: found, enrolled, counted."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select, update

from cloister_client.store.database import chunks, insert
from cloister_client.store.tables import interactions, learners
from cloister_client.store.wishes import earlier_places
from cloister_shared.privacy.ledger_format import Role

DEFAULT_COHORT = "all"

RoleOf = Callable[[str], Role]
"""The role of a pseudonym that is enrolled."""
TombstoneOf = Callable[[str], str]
"""The tombstone of a pseudonym."""


class Learner(NamedTuple):
    """A learner's row number and number of answers."""

    number: int
    answers: int


def find(connection: Connection, pseudonyms: Sequence[str]) -> dict[str, Learner]:
    """Those of ``pseudonyms`` that are enrolled; their rows stay locked in a transaction."""
    columns = (learners.c.pseudonym, learners.c.id, learners.c.answers)
    return {
        pseudonym: Learner(number, answers)
        for chunk in chunks(pseudonyms)
        for pseudonym, number, answers in connection.execute(
            select(*columns)
            .where(learners.c.pseudonym.in_(chunk))
            .order_by(learners.c.id)
            .with_for_update()
        )
    }


def enrol(
    connection: Connection,
    pseudonyms: Sequence[str],
    cohort: str,
    role_of: RoleOf,
    tombstone_of: TombstoneOf,
) -> int:
    """Add those who are not there and return how many; cohort and role never change again.

    Whoever was erased and comes back goes on in their earlier role and cohort, whose budget their
    records were part of: nobody has two.
    """
    enrolled = find(connection, pseudonyms)
    tombstones = {one: tombstone_of(one) for one in pseudonyms if one not in enrolled}
    earlier = earlier_places(connection, list(tombstones.values()))
    rows = []
    for one, tombstone in tombstones.items():
        role, term = earlier.get(tombstone) or (role_of(one), cohort)
        rows.append(
            {
                "pseudonym": one,
                "tombstone": tombstone,
                "cohort": term,
                "role": role,
                "created": time.time(),
            }
        )
    if rows:
        connection.execute(insert(connection, learners).on_conflict_do_nothing(), rows)
    return len(rows)


def set_groups(connection: Connection, groups: Mapping[str, str]) -> None:
    """Put learners into groups, by pseudonym; others stay where they are."""
    by_group: defaultdict[str, list[str]] = defaultdict(list)
    for pseudonym, group in groups.items():
        by_group[group].append(pseudonym)
    for group, members in by_group.items():
        for chunk in chunks(members):
            connection.execute(
                update(learners).where(learners.c.pseudonym.in_(chunk)).values(group=group)
            )


def groups_of(
    connection: Connection, pseudonyms: Sequence[str], condition: ColumnElement[bool]
) -> list[str | None]:
    """The group of each of ``pseudonyms``, in their order; None where ``condition`` is not met."""
    columns = (learners.c.pseudonym, learners.c.group)
    found: dict[str, str | None] = {
        pseudonym: group
        for chunk in chunks(pseudonyms)
        for pseudonym, group in connection.execute(
            select(*columns).where(learners.c.pseudonym.in_(chunk), condition)
        )
    }
    return [found.get(pseudonym) for pseudonym in pseudonyms]


def count_answers(connection: Connection, numbers: Sequence[int]) -> None:
    """Set each learner's number of answers to the truth."""
    mine = interactions.c.learner_id == learners.c.id
    truth = select(func.count()).where(mine).scalar_subquery()
    for chunk in chunks(numbers):
        connection.execute(update(learners).where(learners.c.id.in_(chunk)).values(answers=truth))
