"""What every model kind declares to both sides."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from cloister_shared.canonical import digest
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, MessageError
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.histograms import Outcome
from cloister_shared.registry import Registry

Weights = dict[str, NDArray[np.float32]]


class ModelSpec(Frozen):
    """Names, shapes and initial values of a model's weights; subclasses fix ``kind``."""

    kind: str
    outcome: ClassVar[Outcome] = "binary"
    """What the kind's scores are, for private metrics."""

    @classmethod
    @abstractmethod
    def for_curriculum(cls, curriculum: Curriculum, options: Mapping[str, Any]) -> "ModelSpec":
        """A spec of the curriculum's size; ``options`` are the fields that are free to choose."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight by name; all are float32."""

    @abstractmethod
    def initial_weights(self, curriculum: Curriculum, seed: int) -> Weights:
        """Public initial weights, the same for the same spec, curriculum and seed."""

    @abstractmethod
    def check_curriculum(self, curriculum: Curriculum) -> None:
        """Raise ``ConfigError`` if the spec's sizes are not the curriculum's."""

    @property
    def digest(self) -> str:
        """SHA-256 of the spec: what a model version must have been trained as."""
        return digest(self.model_dump(mode="json"))

    @property
    def dimension(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())


SPECS: Registry[type[ModelSpec]] = Registry("cloister.model_specs")


def parse_spec(document: ModelSpec | Mapping[str, Any]) -> ModelSpec:
    """A spec from its JSON form; ``kind`` picks the class, a registered third kind included."""
    if isinstance(document, ModelSpec):
        return document
    if not isinstance(document, Mapping) or not isinstance(document.get("kind"), str):
        raise ValueError("a model spec is an object with a 'kind'")
    try:
        spec_type = SPECS.get(document["kind"])
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return spec_type.model_validate(dict(document))


AnySpec = Annotated[
    ModelSpec,
    PlainValidator(parse_spec),
    PlainSerializer(lambda spec: spec.model_dump(mode="json")),
]


def check_weights(weights: Mapping[str, NDArray[Any]], spec: ModelSpec) -> None:
    """Raise ``MessageError`` unless names, shapes and dtype are the spec's and all are finite."""
    shapes = spec.shapes()
    if weights.keys() != shapes.keys():
        raise MessageError(
            f"{spec.kind}: asked for the arrays {sorted(shapes)}, found {sorted(weights)}"
        )
    for name, shape in shapes.items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32:
            raise MessageError(
                f"{spec.kind}: {name} must be float32 {shape}, found {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise MessageError(f"{spec.kind}: {name} holds values that are not finite")
