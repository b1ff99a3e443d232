"""How a few clients are trained together: by a kernel, by one gradient, or on stacked weights.

Tracers of plain descent go to the compiled kernel where there is one (``compiled.py``); this is for
the others.

The update of a client is its weight delta over minus the learning rate: for one plain step it is
the client's gradient, and the updates' weighted sum is the gradient of one batch that holds all of
them. For several local steps, or for Adam, every client has weights of its own, stacked along a
first axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from cloister_client.models import model_kind
from cloister_client.training.clipping import clipped_sums
from cloister_client.training.coefficients import coefficients_for
from cloister_client.training.engine import PrivateEngine, Task, build_module
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import Weights
from cloister_shared.plan import LocalTraining, ModelPlan
from cloister_shared.privacy.noise import NoiseSource
from cloister_simulations.fleet.clients import Client
from cloister_simulations.fleet.compiled import compiled_trainer
from cloister_simulations.fleet.sampling import Learners, NoiseOf, joined, sampled
from cloister_simulations.fleet.stacked import STACKED, StackedModule

Data = TypeVar("Data")
_STACKED_FLOATS = 4_000_000
"""Stacked weights of clients that are trained side by side."""


class Trainer(Protocol[Data]):
    """Trains clients from common weights."""

    @property
    def at_once(self) -> int:
        """How many clients to give it together."""

    def train(self, weights: Weights, clients: Sequence[Client[Data]], noise: NoiseOf) -> Weights:
        """The weighted sum of the clients' updates, float32; ``noise`` gives each client's own.

        Without noise in the plan a client weighs its declared size; with noise its update is
        clipped, and weighs one.
        """


def client_trainer(model: ModelPlan, *, devices: bool = False) -> Trainer[Learners]:
    """The trainer for a plan's model; ``devices`` promises that every client is one learner.

    Raises ``ConfigError`` if clients of the model's kind would need stacked weights and have none.
    """
    compiled = compiled_trainer(model)
    if compiled is not None:
        return compiled
    plain = model.local.steps == 1 and model.local.optimizer == "sgd"
    if plain and not model.mechanism.is_private:
        return OneStepTrainer(model)
    if plain and devices:
        return DeviceTrainer(model)
    if model.spec.kind not in STACKED:
        raise ConfigError(
            f"clients of the kind {model.spec.kind} cannot be trained together with "
            f"{model.local.steps} steps of {model.local.optimizer}; known: {', '.join(STACKED)}"
        )
    return StackedTrainer(model)


@dataclass(frozen=True)
class OneStepTrainer:
    """One plain step at every client, not clipped: the gradient of one batch of all their learners.

    The declared size by which a client is weighed is the one by which its gradient was divided.
    """

    model: ModelPlan
    at_once: int = 1000

    def train(
        self, weights: Weights, clients: Sequence[Client[Learners]], noise: NoiseOf
    ) -> Weights:
        """See :class:`Trainer`."""
        task = _task(self.model, weights, noise(clients[0].number))
        for batch in task.batches(joined(sampled(clients, noise, self.model))):
            loss = task.kind.loss(task.module, batch).sum()
            torch.autograd.backward(loss / self.model.mechanism.sampling_rate)
        return {
            name: _array(_parameter(task.module, name).grad, shape)
            for name, shape in self.model.spec.shapes().items()
        }


@dataclass(frozen=True)
class DeviceTrainer:
    """One plain step at devices of one learner, clipped: what the private engine does anyway."""

    model: ModelPlan
    at_once: int = 1000

    def train(
        self, weights: Weights, clients: Sequence[Client[Learners]], noise: NoiseOf
    ) -> Weights:
        """See :class:`Trainer`."""
        rate, clip_norm = self.model.mechanism.sampling_rate, self.model.mechanism.clip_norm
        task = _task(self.model, weights, noise(clients[0].number))
        engine = PrivateEngine(task)
        totals = [torch.zeros_like(parameter) for parameter in engine.optimizer.params]
        for batch in task.batches(joined(sampled(clients, noise, self.model))):
            calls = engine.backward(batch)
            # The update is the gradient over the rate, so the gradient has a smaller bound.
            parts = clipped_sums(calls, batch.learner_of_row, batch.learners, clip_norm * rate)
            totals = [total + part / rate for total, part in zip(totals, parts, strict=True)]
        named = zip(self.model.spec.shapes(), totals, strict=True)
        return {name: total.detach().numpy() for name, total in named}


@dataclass(frozen=True)
class StackedTrainer:
    """Several local steps, with weights of its own for every client."""

    model: ModelPlan

    @property
    def at_once(self) -> int:
        """As many clients as have their weights in the cache."""
        return max(1, _STACKED_FLOATS // self.model.spec.dimension)

    def train(
        self, weights: Weights, clients: Sequence[Client[Learners]], noise: NoiseOf
    ) -> Weights:
        """See :class:`Trainer`."""
        spec, local = self.model.spec, self.model.local
        kind, module = model_kind(spec), STACKED[spec.kind](spec, weights, len(clients))
        optimizer = _optimizer(module, local)
        sizes = torch.tensor([float(client.declared_size) for client in clients])
        divisors = self.model.mechanism.sampling_rate * sizes
        for _ in range(local.steps):
            optimizer.zero_grad()
            drawn = sampled(clients, noise, self.model)
            owners = torch.tensor([own for own, some in enumerate(drawn) for _ in some])
            batch = kind.batch(spec, joined(drawn), local, noise(clients[0].number))
            if len(batch.learner_of_row):
                clients_of_rows = owners[batch.learner_of_row]
                losses = module.losses(batch, clients_of_rows)
                torch.autograd.backward((losses / divisors[clients_of_rows]).sum())
            optimizer.step()
        return self._weighted(module, weights, sizes)

    def _weighted(self, module: StackedModule, start: Weights, sizes: torch.Tensor) -> Weights:
        updates = {
            name: (torch.from_numpy(array) - _parameter(module, name).detach())
            / self.model.local.learning_rate
            for name, array in start.items()
        }
        weighing = sizes
        if self.model.mechanism.is_private:
            squares = sum(update.flatten(1).square().sum(dim=1) for update in updates.values())
            weighing = coefficients_for(torch.as_tensor(squares), self.model.mechanism.clip_norm)
        return {
            name: torch.einsum("c,c...->...", weighing, update).numpy()
            for name, update in updates.items()
        }


def _task(model: ModelPlan, weights: Weights, noise: NoiseSource) -> Task:
    """The group as one node of declared size one; its noise is for windows and negatives only."""
    kind = model_kind(model.spec)
    module = build_module(model.spec, kind, weights)
    return Task(module, model.spec, kind, model.local, model.mechanism, 1, noise)


def _optimizer(module: nn.Module, local: LocalTraining) -> torch.optim.Optimizer:
    if local.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), lr=local.learning_rate)
    return torch.optim.SGD(module.parameters(), lr=local.learning_rate)


def _parameter(module: nn.Module, name: str) -> nn.Parameter:
    return module.get_parameter(f"{name}.weight")


def _array(gradient: torch.Tensor | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if gradient is None else gradient.numpy()
