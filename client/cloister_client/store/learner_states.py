"""What a served model remembers of a learner, kept so that an answer costs one step."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, literal, select

from cloister_client.store.database import insert
from cloister_client.store.tables import learner_states, learners, model_versions


def save(connection: Connection, pseudonym: str, version: str, answers: int, state: bytes) -> None:
    """Keep a state in place of an older one; does nothing for a learner who was erased."""
    row = (
        select(learners.c.id, model_versions.c.id, literal(answers), literal(state))
        .join(model_versions, model_versions.c.version == version)
        .where(learners.c.pseudonym == pseudonym)
    )
    columns = ["learner_id", "model_version_id", "answers", "state"]
    statement = insert(connection, learner_states).from_select(columns, row)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=columns[:2],
            set_={name: statement.excluded[name] for name in columns[2:]},
        )
    )


def load(connection: Connection, pseudonym: str, version: str) -> tuple[int, bytes] | None:
    """Number of answers that the state covers, and the state."""
    row = connection.execute(
        select(learner_states.c.answers, learner_states.c.state)
        .join(learners)
        .join(model_versions)
        .where(learners.c.pseudonym == pseudonym, model_versions.c.version == version)
    ).one_or_none()
    return None if row is None else (row.answers, row.state)


def prune(connection: Connection, kind: str, kept: Collection[str]) -> None:
    """Forget the states of all versions of a kind but those that are ``kept``."""
    columns = model_versions.c
    older = select(columns.id).where(columns.kind == kind, columns.version.not_in(kept))
    connection.execute(delete(learner_states).where(learner_states.c.model_version_id.in_(older)))
