"""The node's store: learners' answers, their wishes, and the models they are served from.

The only door to learner records. Ids of the LMS come in and are turned into pseudonyms here; no
error and no log names either.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from sqlalchemy import ColumnElement, Table, func, select

from cloister_client.histories import History, Interaction, Purpose
from cloister_client.ledger.personal import Wish
from cloister_client.store import (
    activities,
    histories,
    identity,
    imports,
    learner_states,
    learners,
    model_versions,
    serials,
    tables,
    wishes,
)
from cloister_client.store.activities import Activity
from cloister_client.store.consent import Consent, eligible
from cloister_client.store.database import Database
from cloister_client.store.imports import ImportReport
from cloister_client.store.learners import DEFAULT_COHORT, groups_of
from cloister_client.store.model_versions import ModelVersion
from cloister_client.store.pseudonyms import Pseudonymizer
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.ledger_format import Role

ModelNews = Callable[[str, str, str], None]
"""Is told what became of a model: ``serving`` or ``withdrawn``, its kind, its version."""


def no_news(action: str, kind: str, version: str) -> None:
    """For stores that nobody keeps a journal of."""


@dataclass(frozen=True, slots=True)
class StoreRules:
    """What the node's config says of its store.

    ``consent`` holds for those who said nothing; ``cohort`` is the enrolment term that new learners
    join; a ``simulation`` lets roles be given. ``groups`` is the public vocabulary of groups.
    """

    consent: Consent = "opt_out"
    simulation: bool = False
    cohort: str = DEFAULT_COHORT
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """How much the store holds; for the institution's own pages, never to be sent."""

    learners: int
    eligible_for_training: int
    """Learners of the train role who consent."""
    eligible_for_evaluation: int
    """Learners of the evaluation role who consent."""
    interactions: int
    activities: int
    model_versions: int


class Store:
    """One node's store; a ``HistorySource`` for training and evaluation.

    May be shared between threads, and its database between processes.
    """

    def __init__(
        self,
        database: Database,
        curriculum: Curriculum,
        keys: Pseudonymizer,
        rules: StoreRules,
        news: ModelNews = no_news,
    ) -> None:
        self._database = database
        self._curriculum = curriculum
        self._keys = keys
        self._rules = rules
        self._news = news
        self._cache = histories.HistoryCache()
        self._active: dict[str, ModelVersion] = {}

    @classmethod
    def open(
        cls,
        url: str,
        curriculum: Curriculum,
        keys: Pseudonymizer,
        rules: StoreRules | None = None,
        news: ModelNews = no_news,
    ) -> Self:
        """Open the store at a SQLAlchemy ``url``, made or migrated if need be.

        ``news`` is told whenever another model is served from then on.

        Raises ``ConfigError`` if it belongs to another curriculum, other keys or a store of the
        other kind, ``ServiceError`` if its database does not answer.
        """
        database = Database(url)
        with database.prepare(keys.tombstone) as connection:
            identity.identify(connection, curriculum, keys, (rules or StoreRules()).simulation)
        return cls(database, curriculum, keys, rules or StoreRules(), news)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def pseudonym(self, lms_id: str) -> str:
        """The key under which a learner's data are kept: 32 hex digits."""
        return self._keys.pseudonym(lms_id)

    def import_interactions(
        self,
        rows: Iterable[Interaction],
        cohort: str | None = None,
        roles: Mapping[str, Role] | None = None,
    ) -> ImportReport:
        """Add all answers that are not there yet, or none of them if one is bad (``DataError``).

        A learner's cohort and role are those of their first answer and never change. ``roles`` by
        LMS id, in place of the keyed hash, are for simulations only (``ConfigError``). A group that
        is named takes the place of the learner's earlier one.
        """
        if roles is not None and not self._rules.simulation:
            raise ConfigError("roles are given in simulations only; a node's follow from its key")
        given = {self.pseudonym(learner): role for learner, role in (roles or {}).items()}
        prepared = imports.prepare(rows, self._curriculum, self._keys, self._rules.groups)
        with self._database.write() as connection:
            return imports.write(
                connection,
                prepared,
                cohort or self._rules.cohort,
                lambda one: given.get(one) or self._keys.role(one),
                self._keys.tombstone,
            )

    def append(self, lms_id: str, interaction: Interaction) -> bool:
        """Keep one answer of a learner; False if it is there already, or they were erased."""
        return self.import_interactions([replace(interaction, learner=lms_id)]).added == 1

    def append_activity(self, lms_id: str, activity: Activity) -> bool:
        """Keep an ungraded activity; False if it is there already, or the learner was erased."""
        pseudonym = self.pseudonym(lms_id)
        with self._database.write() as connection:
            if wishes.erased_among(connection, [pseudonym], self._keys.tombstone):
                return False
            learners.enrol(
                connection,
                [pseudonym],
                self._rules.cohort,
                self._keys.role,
                self._keys.tombstone,
            )
            return activities.write(connection, pseudonym, activity, self._keys, self._curriculum)

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        """Pseudonyms of those eligible for ``purpose``, in the order of their enrolment."""
        table = tables.learners.c
        statement = select(table.pseudonym).where(eligible(purpose, self._rules.consent))
        if cohorts is not None:
            statement = statement.where(table.cohort.in_(cohorts))
        with self._database.read() as connection:
            return connection.scalars(statement.order_by(table.id)).all()

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        """Histories in the order of ``learners``, by time, then arrival.

        Empty for one who is not eligible, for instance since they were asked for.
        """
        condition = eligible(purpose, self._rules.consent)
        with self._database.read() as connection:
            return histories.load(connection, learners, condition, self._curriculum, self._cache)

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        """The group of each of ``learners``; None for one who is in none, or not eligible."""
        condition = eligible(purpose, self._rules.consent)
        with self._database.read() as connection:
            return groups_of(connection, learners, condition)

    def tombstone(self, lms_id: str) -> str:
        """What a learner's wishes are kept under: 64 hex digits."""
        return self._keys.tombstone(self.pseudonym(lms_id))

    def place(self, lms_id: str) -> tuple[Role, str] | None:
        """A learner's role and cohort; ``None`` if they are not held."""
        table = tables.learners.c
        statement = select(table.role, table.cohort).where(
            table.pseudonym == self.pseudonym(lms_id)
        )
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
            return None if row is None else (row.role, row.cohort)

    def follow(self, asked: Mapping[str, Wish]) -> None:
        """Do what the personal chain says, by tombstone, for now and for data still to come.

        Whoever is erased loses all rows, and the file is written anew without them, also where an
        earlier call did not get that far. Wishes that are not named stay as they are. Raises
        ``ServiceError`` if another process does not let go of the old file's log.
        """
        with self._database.write() as connection:
            wishes.follow(connection, asked)
            traces = wishes.has_traces(connection)
        if traces:
            self._database.write_anew()
            with self._database.write() as connection:
                wishes.no_traces(connection)

    def add_model_version(
        self, spec: ModelSpec, weights: Weights, plan_digest: str, round_number: int
    ) -> ModelVersion:
        """Keep a release, not active yet; the same release again gives the version kept before.

        Raises ``MessageError`` for weights that do not fit the spec or contradict a kept version.
        """
        with self._database.write() as connection:
            return model_versions.add(connection, spec, weights, plan_digest, round_number)

    def add_release(
        self,
        models: Sequence[tuple[ModelSpec, Weights]],
        plan_digest: str,
        round_number: int,
        serial: int,
    ) -> list[ModelVersion]:
        """Keep a release's models, all of them or none, as :meth:`add_model_version` does one.

        Raises ``PolicyError`` if a release of a higher serial was kept of one of their kinds.
        """
        with self._database.write() as connection:
            serials.advance(connection, [spec.kind for spec, _ in models], serial)
            return [
                model_versions.add(connection, spec, weights, plan_digest, round_number)
                for spec, weights in models
            ]

    def forget_serials(self) -> None:
        """Take releases of any serial from now on: they are those of another coordinator."""
        with self._database.write() as connection:
            serials.forget(connection)

    def activate(self, kind: str, version: str) -> None:
        """Serve ``version`` of ``kind`` from now on; ``DataError`` if there is none."""
        with self._database.write() as connection:
            model_versions.activate(connection, kind, version)
        self._news("serving", kind, version)

    def fall_back(self, kind: str, version: str, reason: str) -> str | None:
        """Serve what was served before ``version``, which is blocked; its name, if there is any.

        Does nothing but name the active version if that is another one by now.
        """
        with self._database.write() as connection:
            was_served = model_versions.active_version(connection, kind) == version
            serves = model_versions.fall_back(connection, kind, version, reason)
        if was_served:
            self._news("withdrawn", kind, version)
            if serves is not None:
                self._news("serving", kind, serves)
        return serves

    def block(self, version: str, reason: str) -> None:
        """Note why ``version`` is not served; until it is activated after all."""
        with self._database.write() as connection:
            model_versions.block(connection, version, reason)

    def blocked_models(self) -> dict[str, str]:
        """Why versions are kept out of service, by version."""
        with self._database.read() as connection:
            return model_versions.blocked(connection)

    def model_version(self, version: str) -> ModelVersion:
        """A kept version; ``DataError`` if there is none."""
        with self._database.read() as connection:
            return model_versions.get(connection, version)

    def released(self, plan_digest: str, round_number: int) -> list[ModelVersion]:
        """The versions that are kept of one release."""
        with self._database.read() as connection:
            return model_versions.released(connection, plan_digest, round_number)

    def kept_before(self, version: ModelVersion) -> ModelVersion | None:
        """The version of the same kind that was kept last before ``version``."""
        with self._database.read() as connection:
            return model_versions.kept_before(connection, version.spec.kind, version.version)

    def kind_of(self, version: str) -> str:
        """The kind of a kept version; ``DataError`` if there is none."""
        with self._database.read() as connection:
            return model_versions.kind_of(connection, version)

    def active_version(self, kind: str) -> str | None:
        """The name of the version of ``kind`` that is served now."""
        with self._database.read() as connection:
            return model_versions.active_version(connection, kind)

    def active_model(self, kind: str) -> ModelVersion | None:
        """The version of ``kind`` that is served now, by whichever process it was activated."""
        with self._database.read() as connection:
            version = model_versions.active_version(connection, kind)
            if version is None:
                return None
            if kind not in self._active or self._active[kind].version != version:
                self._active[kind] = model_versions.get(connection, version)
            return self._active[kind]

    def save_state(self, learner: str, version: str, answers: int, blob: bytes) -> None:
        """Keep a model's memory of a pseudonym after ``answers`` answers, in place of an older."""
        with self._database.write() as connection:
            learner_states.save(connection, learner, version, answers, blob)

    def load_state(self, learner: str, version: str) -> tuple[int, bytes] | None:
        """Number of answers and bytes saved last for this pseudonym and model version."""
        with self._database.read() as connection:
            return learner_states.load(connection, learner, version)

    def prune_states(self, kind: str) -> None:
        """Forget what older versions of ``kind`` remember of learners.

        Left are the one that is served and the one that would take its place; of others it is
        replayed from the answers, should they serve again.
        """
        with self._database.write() as connection:
            serves = model_versions.active_version(connection, kind)
            kept = [one for one in (serves, model_versions.last_good(connection, kind)) if one]
            learner_states.prune(connection, kind, kept)

    def cohorts(self) -> set[str]:
        """The enrolment terms to which learners belong."""
        with self._database.read() as connection:
            return set(connection.scalars(select(tables.learners.c.cohort).distinct()))

    def counts(self) -> Counts:
        """Exact numbers of rows; for the institution's own eyes."""

        def count(table: Table, *conditions: ColumnElement[bool]) -> int:
            return (
                connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0
            )

        with self._database.read() as connection:
            return Counts(
                learners=count(tables.learners),
                eligible_for_training=count(
                    tables.learners, eligible("train", self._rules.consent)
                ),
                eligible_for_evaluation=count(
                    tables.learners, eligible("evaluate", self._rules.consent)
                ),
                interactions=count(tables.interactions),
                activities=count(tables.activities),
                model_versions=count(tables.model_versions),
            )
