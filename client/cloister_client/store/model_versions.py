"""Model versions: immutable sets of weights, one of each kind active."""

import json
import time
from dataclasses import dataclass

from safetensors.numpy import load
from sqlalchemy import ColumnElement, Connection, select, update

from cloister_client.store.database import insert
from cloister_client.store.tables import model_versions
from cloister_shared.errors import DataError, MessageError
from cloister_shared.model_manifest import sha256_of, version_of, weights_document
from cloister_shared.model_specs import ModelSpec, Weights, check_weights, parse_spec


@dataclass(frozen=True, slots=True, eq=False)
class ModelVersion:
    """Weights as they were released by round ``round`` of the plan with digest ``plan``.

    ``version`` is a SHA-256 over all the rest: the same at every node, never used twice.
    """

    version: str
    spec: ModelSpec
    weights: Weights
    plan: str
    round: int
    created: float


def add(
    connection: Connection, spec: ModelSpec, weights: Weights, plan: str, round_number: int
) -> ModelVersion:
    """Keep a release; the same release again gives the version that is kept already.

    Raises ``MessageError`` if the weights are not the spec's, or if other weights are kept for
    this round.
    """
    check_weights(weights, spec)
    document = weights_document(weights)
    version = version_of(spec, sha256_of(document), plan, round_number)
    columns = model_versions.c
    same_round = (columns.kind == spec.kind) & (columns.plan == plan)
    same_round &= columns.round == round_number
    connection.execute(
        insert(connection, model_versions)
        .values(
            version=version,
            kind=spec.kind,
            spec=spec.model_dump_json(),
            plan=plan,
            round=round_number,
            weights=document,
            active=False,
            created=time.time(),
        )
        .on_conflict_do_nothing()
    )
    kept = _find(connection, same_round)
    if kept is None or kept.version != version:
        raise MessageError(
            f"round {round_number} of this plan has released other weights of the kind "
            f"{spec.kind!r}; a version never changes"
        )
    return kept


def activate(connection: Connection, kind: str, version: str) -> None:
    """Serve ``version`` from now on; raises ``DataError`` if there is none of this kind."""
    columns = model_versions.c
    connection.execute(
        update(model_versions).where(columns.kind == kind, columns.active).values(active=False)
    )
    result = connection.execute(
        update(model_versions)
        .where(columns.kind == kind, columns.version == version)
        .values(active=True, blocked=None, served=time.time())
    )
    if result.rowcount != 1:
        raise DataError(f"the store holds no {kind} model with the version {version}")


def fall_back(connection: Connection, kind: str, version: str, reason: str) -> str | None:
    """Block ``version``, if it is active, and activate the one that was served last before it.

    Returns the name of the version that is active then. Those that were altered are passed over.
    """
    active = active_version(connection, kind)
    if active != version:
        return active
    columns = model_versions.c
    connection.execute(
        update(model_versions).where(columns.version == version).values(active=False)
    )
    block(connection, version, reason)
    good = last_good(connection, kind)
    if good is not None:
        activate(connection, kind, good)
    return good


def last_good(connection: Connection, kind: str) -> str | None:
    """Of the versions that are not served now, the one that was served last and is whole."""
    columns = model_versions.c
    once_served = columns.served.is_not(None) & columns.blocked.is_(None)
    good = connection.scalars(
        select(columns.version)
        .where(columns.kind == kind, columns.active.is_(False), once_served)
        .order_by(columns.served.desc())
    ).all()
    return next((one for one in good if _is_whole(connection, one)), None)


def block(connection: Connection, version: str, reason: str) -> None:
    """Note why a version is not served."""
    connection.execute(
        update(model_versions).where(model_versions.c.version == version).values(blocked=reason)
    )


def blocked(connection: Connection) -> dict[str, str]:
    """The reason by version that is not served for one, the oldest first."""
    columns = model_versions.c
    rows = connection.execute(
        select(columns.version, columns.blocked)
        .where(columns.blocked.is_not(None))
        .order_by(columns.id)
    )
    return {row.version: row.blocked for row in rows}


def active_version(connection: Connection, kind: str) -> str | None:
    """The version of a kind that is served, without its weights."""
    columns = model_versions.c
    return connection.scalar(select(columns.version).where(columns.kind == kind, columns.active))


def kind_of(connection: Connection, version: str) -> str:
    """The kind of a version; ``DataError`` if it is not there."""
    columns = model_versions.c
    kind: str | None = connection.scalar(select(columns.kind).where(columns.version == version))
    if kind is None:
        raise DataError(f"the store holds no model with the version {version}")
    return kind


def get(connection: Connection, version: str) -> ModelVersion:
    """A version with its weights; raises ``DataError`` if it is not there or was altered."""
    found = _find(connection, model_versions.c.version == version)
    if found is None:
        raise DataError(f"the store holds no model with the version {version}")
    return found


def released(connection: Connection, plan: str, round_number: int) -> list[ModelVersion]:
    """The versions that a plan released after a round, by kind."""
    columns = model_versions.c
    versions = connection.scalars(
        select(columns.version)
        .where(columns.plan == plan, columns.round == round_number)
        .order_by(columns.kind)
    ).all()
    return [get(connection, version) for version in versions]


def kept_before(connection: Connection, kind: str, version: str) -> ModelVersion | None:
    """The version of a kind that was added last before ``version``."""
    columns = model_versions.c
    own = select(columns.id).where(columns.version == version).scalar_subquery()
    earlier = connection.scalar(
        select(columns.version)
        .where(columns.kind == kind, columns.id < own)
        .order_by(columns.id.desc())
        .limit(1)
    )
    return None if earlier is None else get(connection, earlier)


def _is_whole(connection: Connection, version: str) -> bool:
    try:
        get(connection, version)
    except DataError:
        return False
    return True


def _find(connection: Connection, condition: ColumnElement[bool]) -> ModelVersion | None:
    row = connection.execute(select(model_versions).where(condition)).one_or_none()
    if row is None:
        return None
    spec = parse_spec(json.loads(row.spec))
    if version_of(spec, sha256_of(row.weights), row.plan, row.round) != row.version:
        raise DataError(f"the stored {row.kind} model {row.version[:12]} was altered")
    return ModelVersion(row.version, spec, load(row.weights), row.plan, row.round, row.created)
