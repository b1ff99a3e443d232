"""From a sample of histories to the step's gradient: the seam behind which engines differ.

The private engine clips learner by learner; the plain one is ordinary autograd, for baselines
without a guarantee.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from cloister_client.histories import History
from cloister_client.models.base import Batch, ModelKind
from cloister_client.models.recurrence import StateGates
from cloister_client.models.windows import window_count
from cloister_client.training.clipping import LeafCall, clipped_sums, is_small
from cloister_client.training.opacus_samplers import is_known
from cloister_client.training.optimizer import LearnerOptimizer
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource

_ANSWERS_AT_ONCE = 40_000
_GRADIENTS_AT_ONCE = 25_000_000
_CELLS_AT_ONCE = 160_000
"""Answers, floats of gradients that are held for every row, and answers with the padding of rows to
the longest of them: together they bound the memory of a step."""


_Call = tuple[tuple[torch.Tensor, ...], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Task:
    """One model's share of one round at one node."""

    module: nn.Module
    spec: ModelSpec
    kind: ModelKind[Any]
    local: LocalTraining
    mechanism: Mechanism
    declared_size: int
    noise: NoiseSource

    @property
    def batch_size(self) -> float:
        """The public divisor: sampling rate · declared size."""
        return self.mechanism.sampling_rate * self.declared_size

    def batches(self, histories: Sequence[History]) -> Iterator[Batch[Any]]:
        """The sampled histories in chunks that have at least one row."""
        shapes = self.spec.shapes()
        held = [name for name in shapes if is_small(self.module.get_submodule(name))]
        dimension = sum(math.prod(shapes[name]) for name in held)
        for chunk in chunks(histories, self.local, dimension):
            batch = self.kind.batch(self.spec, chunk, self.local, self.noise)
            if len(batch.learner_of_row):
                yield batch

    def optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The node's own optimizer, fresh in every round."""
        rate = self.local.learning_rate
        if self.local.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=rate)
        return torch.optim.SGD(parameters, lr=rate)


class Engine(Protocol):
    """Takes one optimizer step on a sample of learners."""

    def step(self, histories: Sequence[History]) -> None:
        """One step on the sampled ``histories``, which may be none at all."""


class PrivateEngine:
    """Gradients clipped learner by learner, summed and noised, out of one backward a batch."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.leaves = [task.module.get_submodule(name) for name in task.spec.shapes()]
        self.optimizer = LearnerOptimizer(
            task.optimizer([leaf.get_parameter("weight") for leaf in self.leaves]),
            noise_multiplier=task.mechanism.noise_multiplier,
            max_grad_norm=task.mechanism.clip_norm,
            expected_batch_size=task.batch_size,
            noise=task.noise,
            noise_kind=task.mechanism.noise,
        )

    def step(self, histories: Sequence[History]) -> None:
        """One DP-SGD step (Abadi et al. 2016, algorithm 1, with learners as examples)."""
        self.optimizer.start_sum()
        for batch in self.task.batches(histories):
            calls = self.backward(batch)
            self.optimizer.add_clipped(
                clipped_sums(
                    calls, batch.learner_of_row, batch.learners, self.task.mechanism.clip_norm
                )
            )
        self.optimizer.step()

    def backward(self, batch: Batch[Any]) -> list[LeafCall]:
        """What entered each leaf, and the gradient of what left it.

        The backward ends there: the weights' own gradients, sums over all learners, would cost as
        much again for nothing. Raises ``ConfigError`` if a leaf was not called exactly once.
        """
        with _recorded(self.leaves) as calls:
            loss = self.task.kind.loss(self.task.module, batch).sum()
        names = zip(self.task.spec.shapes(), self.leaves, strict=True)
        for name, leaf in names:
            if len(calls[leaf]) != 1:
                raise ConfigError(
                    f"{self.task.spec.kind}: each leaf must be called once in a forward, "
                    f"{name!r} was called {len(calls[leaf])} times"
                )
        kept = [calls[leaf][0] for leaf in self.leaves]
        gradients = torch.autograd.grad(loss, [output for _, output in kept])
        return [
            LeafCall(leaf, inputs, gradient)
            for leaf, (inputs, _), gradient in zip(self.leaves, kept, gradients, strict=True)
        ]


@contextmanager
def _recorded(leaves: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[_Call]]]:
    """The calls of each leaf while the context lasts: inputs, without their history, and output."""
    calls: dict[nn.Module, list[_Call]] = {leaf: [] for leaf in leaves}

    def keep(leaf: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls[leaf].append((tuple(one.detach() for one in inputs), output))

    handles = [leaf.register_forward_hook(keep) for leaf in leaves]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class PlainEngine:
    """Ordinary gradients, neither clipped nor noised; no guarantee."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.optimizer = task.optimizer(list(task.module.parameters()))

    def step(self, histories: Sequence[History]) -> None:
        """One step on the sum of the learners' mean losses over the public batch size."""
        for parameter in self.task.module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for batch in self.task.batches(histories):
            loss = self.task.kind.loss(self.task.module, batch).sum() / self.task.batch_size
            loss.backward()
        self.optimizer.step()


def build_module(spec: ModelSpec, kind: ModelKind[Any], weights: Weights) -> nn.Module:
    """The kind's module, or ``ConfigError`` if it cannot be clipped learner by learner.

    A gradient outside the leaves that the spec names would be released without having been clipped.
    """
    module = kind.build(spec, weights)
    _check_parameters(spec, module)
    _check_leaves(spec, {name: module.get_submodule(name) for name in spec.shapes()})
    return module


def _check_parameters(spec: ModelSpec, module: nn.Module) -> None:
    found = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    expected = {f"{name}.weight" for name in spec.shapes()}
    if found != expected:
        raise ConfigError(
            f"{spec.kind}: trainable parameters must be {sorted(expected)}, found {sorted(found)}"
        )


def _check_leaves(spec: ModelSpec, leaves: Mapping[str, nn.Module]) -> None:
    unknown = [name for name, leaf in leaves.items() if is_small(leaf) and not is_known(leaf)]
    if unknown:
        raise ConfigError(
            f"{spec.kind}: neither we nor Opacus know the gradient of one learner in {unknown}; "
            "use our leaves or register a sampler with opacus.grad_sample.register_grad_sampler"
        )
    matrices = [name for name, leaf in leaves.items() if isinstance(leaf, StateGates)]
    if len(matrices) > 1:
        raise ConfigError(f"{spec.kind}: at most one leaf may be StateGates, found {matrices}")


def chunks(
    histories: Sequence[History], local: LocalTraining, dimension: int
) -> Iterator[list[History]]:
    """Histories of similar length together, as many as are worth holding at once.

    One learner is never divided; ``dimension`` is the number of weights whose gradient is held for
    every row.
    """
    chunk: list[History] = []
    answers = rows = 0
    for history in sorted(histories, key=len):
        answers += len(history)
        rows += window_count(len(history), local)
        cells = rows * min(len(history), local.window)
        if chunk and (
            answers > _ANSWERS_AT_ONCE
            or cells > _CELLS_AT_ONCE
            or rows * dimension > _GRADIENTS_AT_ONCE
        ):
            yield chunk
            chunk = []
            answers, rows = len(history), window_count(len(history), local)
        chunk.append(history)
    if chunk:
        yield chunk
