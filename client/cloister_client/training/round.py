"""``train_round``: one node's part of one round, the function that an auditor calls."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import compress

import numpy as np
from torch import nn

from cloister_client.histories import HistorySource
from cloister_client.models import model_kind
from cloister_client.training.engine import Engine, PlainEngine, PrivateEngine, Task, build_module
from cloister_shared.model_specs import ModelSpec, Weights, check_weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.events import NonPrivate, SampledGaussian
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource, bernoulli


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A weight delta by name, and the events that it must have been charged as."""

    delta: Weights
    events: tuple[SampledGaussian | NonPrivate, ...]


def train_round(
    weights: Weights,
    source: HistorySource,
    mechanism: Mechanism,
    spec: ModelSpec,
    noise: NoiseSource,
    *,
    local: LocalTraining,
    declared_size: int,
    cohorts: Collection[str] | None = None,
) -> TrainingResult:
    """Train ``local.steps`` steps from ``weights`` on Poisson samples of learners.

    Each step samples every eligible train-role learner independently at the public rate, sums
    each one's gradients over their windows, clips, adds noise and divides by rate · declared size.
    An empty sample is noised like any other. The delta is as private as ``events`` say; with
    noise multiplier 0 the event is ``NonPrivate``. Steps end early if a noised step overflowed the
    weights. Raises ``MessageError`` if the weights do not fit the spec and ``ConfigError`` if the
    module has parameters outside the spec.
    """
    check_weights(weights, spec)
    kind = model_kind(spec)
    module = build_module(spec, kind, weights)
    task = Task(module, spec, kind, local, mechanism, declared_size, noise)
    engine: Engine = PrivateEngine(task) if mechanism.is_private else PlainEngine(task)
    learners = source.learners("train", cohorts)
    for _ in range(local.steps):
        # Zero times infinity is NaN: padding, and so the length of others, would have a say.
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            break
        sampled = bernoulli(noise, mechanism.sampling_rate, len(learners))
        engine.step(source.load(list(compress(learners, sampled)), "train"))
    return TrainingResult(_delta(module, weights), (mechanism.event(local.steps),))


def _delta(module: nn.Module, before: Weights) -> Weights:
    return {
        name: np.subtract(module.get_parameter(f"{name}.weight").detach().numpy(), start)
        for name, start in before.items()
    }
