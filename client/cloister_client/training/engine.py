"""From a sample of histories to the step's gradient: the seam behind which engines differ.

The private engine goes through Opacus's hooks; the plain one is ordinary autograd, for baselines
without a guarantee.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from opacus import GradSampleModule
from torch import nn

from cloister_client.histories import History
from cloister_client.models.base import ModelKind
from cloister_client.training.optimizer import LearnerOptimizer
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource

_ANSWERS_AT_ONCE = 20_000
"""Answers whose per-learner gradients are held together; one learner is never divided."""


class Engine(Protocol):
    """Takes one optimizer step on a sample of learners."""

    def step(self, histories: Sequence[History]) -> None:
        """One step on the sampled ``histories``, which may be none at all."""


class PrivateEngine:
    """Per-learner gradients by Opacus's hooks, summed over windows, clipped, noised."""

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        kind: ModelKind[object],
        local: LocalTraining,
        mechanism: Mechanism,
        declared_size: int,
        noise: NoiseSource,
    ) -> None:
        self.module = GradSampleModule(module, batch_first=True, loss_reduction="sum", strict=True)
        self.spec, self.kind, self.local, self.noise = spec, kind, local, noise
        self.optimizer = LearnerOptimizer(
            make_optimizer(module, local),
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.clip_norm,
            expected_batch_size=mechanism.sampling_rate * declared_size,
            noise=noise,
        )

    def step(self, histories: Sequence[History]) -> None:
        """One DP-SGD step (Abadi et al. 2016, algorithm 1, with learners as examples)."""
        self.optimizer.start_sum()
        for chunk in chunks(histories):
            batch = self.kind.batch(self.spec, chunk, self.local, self.noise)
            if len(batch.learner_of_row):
                self.kind.loss(self.module, batch).sum().backward()
                self.optimizer.sum_rows(batch.learner_of_row, batch.learners)
                self.optimizer.clip_and_accumulate()
                self.optimizer.drop_samples()
        self.optimizer.step()


class PlainEngine:
    """Ordinary gradients, neither clipped nor noised; no guarantee."""

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        kind: ModelKind[object],
        local: LocalTraining,
        mechanism: Mechanism,
        declared_size: int,
        noise: NoiseSource,
    ) -> None:
        self.module, self.spec, self.kind, self.local, self.noise = module, spec, kind, local, noise
        self.batch_size = mechanism.sampling_rate * declared_size
        self.optimizer = make_optimizer(module, local)

    def step(self, histories: Sequence[History]) -> None:
        """One step on the sum of the learners' mean losses over the public batch size."""
        self.optimizer.zero_grad(set_to_none=False)
        for chunk in chunks(histories):
            batch = self.kind.batch(self.spec, chunk, self.local, self.noise)
            if len(batch.learner_of_row):
                (self.kind.loss(self.module, batch).sum() / self.batch_size).backward()
        self.optimizer.step()


def build_module(spec: ModelSpec, kind: ModelKind[object], weights: Weights) -> nn.Module:
    """The kind's module, or ``ConfigError`` if a parameter is not a leaf named in the spec.

    A gradient outside the leaves would be released without having been clipped.
    """
    module = kind.build(spec, weights)
    found = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    expected = {f"{name}.weight" for name in spec.shapes()}
    if found != expected:
        raise ConfigError(
            f"{spec.kind}: trainable parameters must be {sorted(expected)}, found {sorted(found)}"
        )
    return module


def make_optimizer(module: nn.Module, local: LocalTraining) -> torch.optim.Optimizer:
    """The node's own optimizer, fresh in every round: it works on noisy gradients only."""
    if local.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), lr=local.learning_rate)
    return torch.optim.SGD(module.parameters(), lr=local.learning_rate)


def chunks(histories: Sequence[History]) -> Iterator[list[History]]:
    """Histories of similar length together, as many as are worth holding at once."""
    chunk: list[History] = []
    answers = 0
    for history in sorted(histories, key=len):
        if chunk and answers + len(history) > _ANSWERS_AT_ONCE:
            yield chunk
            chunk, answers = [], 0
        chunk.append(history)
        answers += len(history)
    if chunk:
        yield chunk
