"""Ungraded activities: a video watched, a page read, a hint asked for."""

from dataclasses import dataclass

from sqlalchemy import Connection

from cloister_client.store.database import insert
from cloister_client.store.learners import find
from cloister_client.store.pseudonyms import Pseudonymizer
from cloister_client.store.tables import activities
from cloister_shared.curriculum import Curriculum


@dataclass(frozen=True, slots=True)
class Activity:
    """What a learner did; ``when`` in seconds since 1970, ``key`` the same when told again.

    ``item`` is None, or unknown to the curriculum, for what is no exercise.
    """

    verb: str
    when: float
    key: str
    item: str | None = None


def write(
    connection: Connection,
    pseudonym: str,
    activity: Activity,
    keys: Pseudonymizer,
    curriculum: Curriculum,
) -> bool:
    """Keep an activity of an enrolled learner; False if it is there already."""
    fields = (activity.verb, repr(activity.when), activity.key, activity.item or "")
    added = connection.execute(
        insert(connection, activities)
        .values(
            learner_id=find(connection, [pseudonym])[pseudonym].number,
            fingerprint=keys.fingerprint(*fields),
            verb=activity.verb,
            item=curriculum.item_index.get(activity.item or ""),
            when=activity.when,
        )
        .on_conflict_do_nothing()
        .returning(activities.c.id)
    )
    return added.first() is not None
