"""Logistic regression as a fleet trains it: the benchmark's second job is no model kind of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from cloister_shared.curriculum import Curriculum
from cloister_shared.model_specs import SPECS, ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_simulations.fleet import Client
from cloister_simulations.fleet.sampling import NoiseOf

Samples = tuple[torch.Tensor, torch.Tensor]
"""(n, pixels) float32 and (n,) int64 labels."""


class LinearSpec(ModelSpec):
    """Weights: ``linear`` (classes, pixels) and ``bias`` (classes,)."""

    kind: Literal["linear"] = "linear"
    pixels: int
    classes: int

    @classmethod
    def known(cls, pixels: int, classes: int) -> "LinearSpec":
        """A spec that messages of this process can hold from now on."""
        SPECS.register("linear", cls)
        return cls(pixels=pixels, classes=classes)

    @classmethod
    def for_curriculum(cls, curriculum: Curriculum, options: Mapping[str, Any]) -> "LinearSpec":
        """Sizes are free: they have nothing to do with a curriculum."""
        return cls.model_validate(dict(options))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the two weights."""
        return {"linear": (self.classes, self.pixels), "bias": (self.classes,)}

    def initial_weights(self, curriculum: Curriculum, seed: int) -> Weights:
        """Zeros."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.shapes().items()}

    def check_curriculum(self, curriculum: Curriculum) -> None:
        """Every curriculum will do."""


@dataclass(frozen=True)
class LinearTrainer:
    """Passes in order over each client's samples, in batches of ``batch``, of plain descent."""

    local: LocalTraining
    batch: int
    passes: int = 1
    at_once: int = 100

    def train(
        self, weights: Weights, clients: Sequence[Client[Samples]], noise: NoiseOf
    ) -> Weights:
        """The sum of the clients' updates, one a client, each by its size."""
        del noise
        pixels, labels = (
            torch.stack([client.data[which] for client in clients]) for which in (0, 1)
        )
        sizes = torch.tensor([float(client.declared_size) for client in clients])
        start = {name: torch.from_numpy(array) for name, array in weights.items()}
        linear = start["linear"].repeat(len(clients), 1, 1)
        bias = start["bias"].repeat(len(clients), 1)
        for _ in range(self.passes):
            for first in range(0, pixels.shape[1], self.batch):
                part = slice(first, first + self.batch)
                self._step(linear, bias, pixels[:, part], labels[:, part])
        moved = {"linear": start["linear"] - linear, "bias": start["bias"] - bias}
        return {
            name: torch.einsum("c,c...->...", sizes, update / self.local.learning_rate).numpy()
            for name, update in moved.items()
        }

    def _step(
        self, linear: torch.Tensor, bias: torch.Tensor, pixels: torch.Tensor, labels: torch.Tensor
    ) -> None:
        """One step of every client on its own weights (C, classes, pixels) and (C, classes)."""
        logits = torch.baddbmm(bias.unsqueeze(1), pixels, linear.transpose(1, 2))
        slopes = torch.softmax(logits, dim=2)
        slopes.scatter_add_(
            2, labels.unsqueeze(2), slopes.new_tensor(-1.0).expand(*labels.shape, 1)
        )
        rate = self.local.learning_rate / labels.shape[1]
        linear.baddbmm_(slopes.transpose(1, 2), pixels, alpha=-rate)
        bias.sub_(slopes.sum(dim=1), alpha=rate)
