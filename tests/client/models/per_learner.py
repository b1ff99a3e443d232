"""Gradients per learner through Opacus's hooks, as training takes them, before any clipping."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from opacus import GradSampleModule

from cloister_client.histories import History
from cloister_client.models import Batch, model_kind
from cloister_client.training.optimizer import LearnerOptimizer
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import KeyedNoise

Gradients = dict[str, torch.Tensor]
"""(learners, *shape) by weight name."""


def make_batch(
    spec: ModelSpec, histories: Sequence[History], local: LocalTraining, key: int = 1
) -> Batch:
    return model_kind(spec).batch(spec, histories, local, KeyedNoise(key))


def hooked_gradients(
    spec: ModelSpec, weights: Weights, batch: Batch, dtype: torch.dtype = torch.float32
) -> Gradients:
    kind = model_kind(spec)
    module = GradSampleModule(kind.build(spec, weights).to(dtype), loss_reduction="sum")
    optimizer = LearnerOptimizer(
        torch.optim.SGD(module.parameters()),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=1.0,
        noise=KeyedNoise(1),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        kind.loss(module, batch).sum().backward()
    optimizer.sum_rows(batch.learner_of_row, batch.learners)
    return {
        name: module._module.get_parameter(f"{name}.weight").grad_sample for name in spec.shapes()
    }


def in_double(batch: Batch) -> Batch:
    """The batch with its shares and weights, which are reciprocals of counts, in float64."""
    inputs = batch.inputs
    exact = {
        name: _reciprocal(getattr(inputs, name))
        for name in ("shares", "weights")
        if hasattr(inputs, name)
    }
    others = ("correct", "practice", "recency")
    exact |= {name: getattr(inputs, name).double() for name in others if hasattr(inputs, name)}
    return replace(batch, inputs=replace(inputs, **exact))


def _reciprocal(rounded: torch.Tensor) -> torch.Tensor:
    counts = (1 / rounded.double()).round()
    return torch.where(rounded > 0, 1 / counts, torch.zeros_like(counts))


def relative_difference(ours: Gradients, reference: Gradients) -> float:
    """The largest distance of any learner's whole gradient, relative to its length."""
    return max(
        ((mine - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()
        for mine, theirs in zip(_flat(ours), _flat(reference), strict=True)
    )


def _flat(gradients: Gradients) -> torch.Tensor:
    return torch.cat([part.double().flatten(1) for part in gradients.values()], dim=1)
