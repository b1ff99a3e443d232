"""Who may be read for what: role, consent and erasure, asked afresh in every query."""

import time
from collections.abc import Sequence
from typing import Literal, get_args

from sqlalchemy import ColumnElement, Connection, delete, exists, select, true

from cloister_client.histories import Purpose
from cloister_client.store.database import chunks, insert
from cloister_client.store.tables import consents, erasures, learners
from cloister_shared.privacy.ledger_format import Role

Consent = Literal["opt_out", "opt_in"]
ConsentPurpose = Literal["train", "evaluate", "experiment"]
"""What a learner can say yes or no to. Serving and audits end with the learner's erasure."""

CONSENT_PURPOSES: tuple[ConsentPurpose, ...] = get_args(ConsentPurpose)
_ROLES: dict[Purpose, Role] = {"train": "train", "evaluate": "evaluation"}


def eligible(purpose: Purpose, default: Consent) -> ColumnElement[bool]:
    """A condition on ``learners``: their role fits, and they consent; the erased have no row."""
    role = learners.c.role == _ROLES[purpose] if purpose in _ROLES else true()
    if purpose not in CONSENT_PURPOSES:
        return role
    said = (consents.c.pseudonym == learners.c.pseudonym) & (consents.c.purpose == purpose)
    if default == "opt_in":
        return role & exists().where(said, consents.c.granted)
    return role & ~exists().where(said, ~consents.c.granted)


def record(connection: Connection, pseudonym: str, purpose: ConsentPurpose, granted: bool) -> None:
    """Keep a learner's yes or no, in place of an earlier one."""
    statement = insert(connection, consents).values(
        pseudonym=pseudonym, purpose=purpose, granted=granted, changed=time.time()
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["pseudonym", "purpose"],
            set_={"granted": statement.excluded.granted, "changed": statement.excluded.changed},
        )
    )


def erase(connection: Connection, pseudonym: str) -> bool:
    """Delete all rows of a learner and remember that they were erased; False if none was held."""
    connection.execute(
        insert(connection, erasures)
        .values(pseudonym=pseudonym, erased=time.time())
        .on_conflict_do_nothing()
    )
    result = connection.execute(delete(learners).where(learners.c.pseudonym == pseudonym))
    return bool(result.rowcount)


def erased_among(connection: Connection, pseudonyms: Sequence[str]) -> set[str]:
    """Those of ``pseudonyms`` that were erased."""
    column = erasures.c.pseudonym
    return {
        pseudonym
        for chunk in chunks(pseudonyms)
        for pseudonym in connection.scalars(select(column).where(column.in_(chunk)))
    }
