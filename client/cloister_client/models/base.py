"""The behaviour of a model kind: the torch side of its spec.

The round loop, the ledger and the messages know only :class:`ModelKind`; a further kind is
registered under ``cloister.model_kinds`` (docs/model-kinds.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloister_client.histories import History
from cloister_shared.errors import DataError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource
from cloister_shared.registry import Registry

Inputs = TypeVar("Inputs")


@dataclass(frozen=True, slots=True)
class Batch(Generic[Inputs]):
    """Rows for one step; several rows (windows) may belong to one learner.

    ``learner_of_row`` (rows,) int64 gives the learner of each row, in [0, ``learners``);
    learners without a usable answer have no row and contribute a zero gradient.
    """

    inputs: Inputs
    learner_of_row: torch.Tensor
    learners: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model said about evaluation learners, one line a prediction.

    ``targets`` and ``outputs`` (n,): 0/1 labels and probabilities for a tracer; for a
    recommender ``targets`` is all ones and ``outputs`` the 1-based rank of the true next item.
    """

    targets: NDArray[np.float64]
    outputs: NDArray[np.float64]

    @staticmethod
    def concatenate(parts: Sequence["Scores"]) -> "Scores":
        """All predictions together."""
        return Scores(
            np.concatenate([part.targets for part in parts] or [np.zeros(0)]),
            np.concatenate([part.outputs for part in parts] or [np.zeros(0)]),
        )


class ModelKind(Protocol[Inputs]):
    """What training and evaluation need of a model kind.

    ``build`` gives a module whose parameters carry the spec's names and shapes and all lie in leaf
    modules that are called once per forward: of types of ours, or of Opacus's, that know what each
    row adds to the gradient.
    """

    def build(self, spec: Any, weights: Weights) -> nn.Module:
        """A torch module holding ``weights``."""

    def batch(
        self, spec: Any, histories: Sequence[History], local: LocalTraining, noise: NoiseSource
    ) -> Batch[Inputs]:
        """Cut histories into rows; draws (windows, negatives) come from ``noise``."""

    def loss(self, module: nn.Module, batch: Batch[Inputs]) -> torch.Tensor:
        """(rows,) losses; the rows of one learner sum to the mean loss *within* that learner."""

    def score(self, spec: Any, weights: Weights, histories: Sequence[History]) -> list[Scores]:
        """Predictions for every position that counts, one ``Scores`` a history."""

    def metrics(self, scores: Scores) -> dict[str, float]:
        """Summary figures by name; no predictions give NaN."""


def check_within(what: str, positions: NDArray[np.int32], size: int) -> None:
    """``DataError`` if a history names a skill or item for which the model has no row."""
    if positions.max(initial=-1) >= size:
        raise DataError(f"a history has a {what} beyond the {size} that the model was made for")


MODEL_KINDS: Registry[type[ModelKind[Any]]] = Registry("cloister.model_kinds")


def model_kind(spec: ModelSpec) -> ModelKind[Any]:
    """The behaviour that belongs to ``spec``."""
    return MODEL_KINDS.get(spec.kind)()
