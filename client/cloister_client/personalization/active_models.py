"""The active model versions, made ready to be asked; a new version takes over at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cloister_client.personalization.learner_store import LearnerStore, ModelVersion
from cloister_client.personalization.ranker import Ranker
from cloister_client.personalization.tracer import Tracer
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ServiceError
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec

Model = TypeVar("Model")
Spec = TypeVar("Spec", bound=ModelSpec)


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
        return self._current("dkt", self._build_tracer)

    def ranker(self) -> Active[Ranker] | None:
        """The active recommender, if there is one."""
        return self._current("recommender", self._build_ranker)

    def _current(self, kind: str, build: Callable[[ModelVersion], Model]) -> Active[Model] | None:
        active = self._store.active_model(kind)
        if active is None:
            return None
        built = self._built.get(kind)
        if built is None or built.version != active.version:
            built = Active(active.version, build(active))
            self._built[kind] = built
        return built

    def _build_tracer(self, version: ModelVersion) -> Tracer:
        spec = self._spec(version, DktSpec)
        return Tracer(spec, version.weights, self._curriculum.item_skills)

    def _build_ranker(self, version: ModelVersion) -> Ranker:
        return Ranker(self._spec(version, RecommenderSpec), version.weights)

    def _spec(self, version: ModelVersion, spec_type: type[Spec]) -> Spec:
        """The version's spec, if it is of the type and the sizes that this node can serve."""
        spec = version.spec
        if not isinstance(spec, spec_type):
            raise ServiceError(f"model version {version.version} is no {spec_type.__name__}")
        spec.check_curriculum(self._curriculum)
        return spec


def required(active: Active[Model] | None, what: str) -> Active[Model]:
    """``active``, or a ``ServiceError`` that says which model is missing and what to do."""
    if active is None:
        raise ServiceError(
            f"this node has no active {what} yet: it gets one when it takes part in a run"
        )
    return active
