"""What a store belongs to: its curriculum, its keys, and whether it is a simulation's."""

import json

from sqlalchemy import Connection, insert, select, update

from cloister_client.store.pseudonyms import Pseudonymizer
from cloister_client.store.tables import meta
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError


def identify(
    connection: Connection, curriculum: Curriculum, keys: Pseudonymizer, simulation: bool
) -> None:
    """Give a new store its identity, or check an older one's.

    A later version of the curriculum is taken over. Raises ``ConfigError`` for another curriculum,
    other keys, or a store of the other kind.
    """
    given = {
        "curriculum": json.dumps(_vocabulary(curriculum)),
        "keys": keys.check_value,
        "simulation": json.dumps(simulation),
    }
    kept = {row.name: row.value for row in connection.execute(select(meta))}
    if not kept:
        rows = [{"name": name, "value": value} for name, value in given.items()]
        connection.execute(insert(meta), rows)
    elif kept != given:
        _check(kept, given, curriculum)
        connection.execute(
            update(meta).where(meta.c.name == "curriculum").values(value=given["curriculum"])
        )


def _check(kept: dict[str, str], given: dict[str, str], curriculum: Curriculum) -> None:
    if kept["keys"] != given["keys"]:
        raise ConfigError(
            "the keys are not those that the store was written with, so every learner would be "
            "a stranger; restore the keys that belong to it"
        )
    if kept["simulation"] != given["simulation"]:
        raise ConfigError(
            f"the store was made with simulation: {kept['simulation']}, the config says "
            f"{given['simulation']}; make another store"
        )
    for what, before in json.loads(kept["curriculum"]).items():
        now = _vocabulary(curriculum)[what]
        if now[: len(before)] != before:
            raise ConfigError(
                f"the curriculum {curriculum.name!r} does not begin with the {len(before)} {what} "
                "that the store's answers refer to; a new version only appends"
            )


def _vocabulary(curriculum: Curriculum) -> dict[str, list[str]]:
    """Ids in their order: positions in it stand in the rows."""
    return {
        "skills": [skill.id for skill in curriculum.skills],
        "items": [item.id for item in curriculum.items],
    }
