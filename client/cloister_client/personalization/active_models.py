"""The active model versions, made ready to be asked; a new version takes over at once.

One that cannot be asked after all, as its bytes were damaged, is given up for the last good one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cloister_client.personalization.learner_store import LearnerStore, ModelVersion
from cloister_client.personalization.ranker import Ranker
from cloister_client.personalization.tracer import Tracer
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import CloisterError, ServiceError
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec

Model = TypeVar("Model")
Spec = TypeVar("Spec", bound=ModelSpec)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Active(Generic[Model]):
    """A model and the name of its version."""

    version: str
    model: Model


class ActiveModels:
    """The node's tracer and recommender, built once per version."""

    def __init__(self, store: LearnerStore, curriculum: Curriculum) -> None:
        self._store = store
        self._curriculum = curriculum
        self._built: dict[str, Active[Any]] = {}

    def tracer(self) -> Active[Tracer] | None:
        """The active knowledge tracer, if there is one."""
        return self._current("dkt", tracer_of)

    def ranker(self) -> Active[Ranker] | None:
        """The active recommender, if there is one."""
        return self._current("recommender", ranker_of)

    def _current(
        self, kind: str, build: Callable[[ModelVersion, Curriculum], Model]
    ) -> Active[Model] | None:
        while (version := self._store.active_version(kind)) is not None:
            built = self._built.get(kind)
            if built is not None and built.version == version:
                return built
            try:
                model = build(self._store.model_version(version), self._curriculum)
            except CloisterError as error:
                self._give_up(kind, version, error)
            else:
                self._built[kind] = Active(version, model)
                return self._built[kind]
        return None

    def _give_up(self, kind: str, version: str, error: CloisterError) -> None:
        """Have the store serve the last good version; without one, say what is wrong."""
        _LOG.warning("%s %s cannot be served: %s", kind, version, error)
        if self._store.fall_back(kind, version, f"it cannot be served: {error}") is None:
            raise error


def tracer_of(version: ModelVersion, curriculum: Curriculum) -> Tracer:
    """The tracer, ready to be asked; raises as :func:`_spec` does."""
    return Tracer(_spec(version, curriculum, DktSpec), version.weights, curriculum.item_skills)


def ranker_of(version: ModelVersion, curriculum: Curriculum) -> Ranker:
    """The recommender, ready to be asked; raises as :func:`_spec` does."""
    return Ranker(_spec(version, curriculum, RecommenderSpec), version.weights)


def _spec(version: ModelVersion, curriculum: Curriculum, spec_type: type[Spec]) -> Spec:
    """The version's spec; ``ServiceError`` or ``ConfigError`` if it cannot be served here."""
    spec = version.spec
    if not isinstance(spec, spec_type):
        raise ServiceError(f"model version {version.version} is no {spec_type.__name__}")
    spec.check_curriculum(curriculum)
    return spec


def required(active: Active[Model] | None, what: str) -> Active[Model]:
    """``active``, or a ``ServiceError`` that says which model is missing and what to do."""
    if active is None:
        raise ServiceError(
            f"this node has no active {what} yet: it gets one when it takes part in a run"
        )
    return active
