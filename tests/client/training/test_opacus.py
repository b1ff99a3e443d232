"""Our modules train under Opacus's own machinery too, and it clips as our engine does.

Opacus's samples are rows, so here every learner has one window. Without noise both are exact.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from opacus import PrivacyEngine
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import nn
from torch.utils.data import DataLoader

from cloister_client.histories import History
from cloister_client.models import Batch, model_kind
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining

from ..learners import ITEMS, SKILLS, made_up_history, random_weights
from ..models.per_learner import (
    engine_gradients,
    engine_sums,
    make_batch,
    norms_of,
    relative_difference,
)

pytestmark = pytest.mark.filterwarnings("ignore:Secure RNG turned off")

SPECS = [
    DktSpec(skills=SKILLS, hidden=4, items=ITEMS, practice=True),
    RecommenderSpec(items=ITEMS, factors=3, negatives=2),
]
HISTORIES = [made_up_history(answers, answers, 2) for answers in (3, 12, 2, 7, 9, 30, 4, 5)]
CLIP, LEARNERS = 0.5, len(HISTORIES)

by_spec = pytest.mark.parametrize("spec", SPECS, ids=["dkt", "recommender"])


def as_tensors(batch: Batch) -> dict[str, torch.Tensor]:
    """What Opacus's loader can carry, and make an empty batch of."""
    return {one.name: getattr(batch.inputs, one.name) for one in fields(batch.inputs)}


def as_batch(template: Batch, tensors: dict[str, torch.Tensor]) -> Batch:
    """The batch of those tensors, each row a learner."""
    rows = len(tensors["weights"])
    return Batch(replace(template.inputs, **tensors), torch.arange(rows), rows)


class Losses(nn.Module):
    """A criterion as Opacus wants it: (rows,) losses, or their sum."""

    def __init__(self, spec: ModelSpec, reduction: str = "sum") -> None:
        super().__init__()
        self.spec, self.reduction = spec, reduction

    def forward(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        losses = model_kind(self.spec).loss(module, batch)
        return losses if self.reduction == "none" else losses.sum()


def build(spec: ModelSpec) -> nn.Module:
    return model_kind(spec).build(spec, random_weights(spec))


def released(spec: ModelSpec, module: Any) -> dict[str, torch.Tensor]:
    """(1, *shape) what the optimizer would step along, by weight name."""
    plain = module._module
    return {name: plain.get_parameter(f"{name}.weight").grad[None] for name in spec.shapes()}


def expected(spec: ModelSpec, batch: Batch) -> dict[str, torch.Tensor]:
    """Our clipped sum over the public batch size."""
    sums = engine_sums(spec, random_weights(spec), batch, CLIP)
    return {name: total / LEARNERS for name, total in sums.items()}


def hooks_step(spec: ModelSpec, batch: Batch, noise: float = 0.0) -> GradSampleModule:
    module = GradSampleModule(build(spec), loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        expected_batch_size=LEARNERS,
    )
    Losses(spec)(module, batch).backward()
    optimizer.step()
    return module


def ghost_step(
    spec: ModelSpec, batch: Batch, noise: float = 0.0
) -> GradSampleModuleFastGradientClipping:
    module = GradSampleModuleFastGradientClipping(
        build(spec), loss_reduction="sum", max_grad_norm=CLIP
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        expected_batch_size=LEARNERS,
    )
    losses = Losses(spec, "none")(module, batch)
    DPTensorFastGradientClipping(module, optimizer, losses, "sum").backward()
    optimizer.step()
    return module


@by_spec
@pytest.mark.parametrize("step", [hooks_step, ghost_step])
def test_opacuss_optimizers_release_our_clipped_sum(spec, step):
    batch = make_batch(spec, HISTORIES, LocalTraining())
    norms = norms_of(engine_gradients(spec, random_weights(spec), batch))
    assert norms.min() < CLIP < norms.max()
    assert relative_difference(released(spec, step(spec, batch)), expected(spec, batch)) < 1e-5


@by_spec
@pytest.mark.parametrize("step", [hooks_step, ghost_step])
def test_an_empty_batch_releases_noise_and_nothing_else(spec, step):
    batch = make_batch(spec, HISTORIES, LocalTraining())
    nobody = {name: tensor[:0] for name, tensor in as_tensors(batch).items()}
    empty = as_batch(batch, nobody)
    assert not any(part.any() for part in released(spec, step(spec, empty)).values())
    assert all(part.any() for part in released(spec, step(spec, empty, noise=1.0)).values())


@by_spec
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_make_private_wraps_our_modules(spec, mode):
    template = make_batch(spec, HISTORIES, LocalTraining())

    def collate(histories: Sequence[History]) -> dict[str, torch.Tensor]:
        return as_tensors(make_batch(spec, histories, LocalTraining()))

    loader = DataLoader(HISTORIES, batch_size=LEARNERS, collate_fn=collate)
    plain = build(spec)
    module, optimizer, *criterion, poisson = PrivacyEngine().make_private(
        module=plain,
        optimizer=torch.optim.SGD(plain.parameters(), lr=0.0),
        criterion=Losses(spec),
        data_loader=loader,
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        loss_reduction="sum",
        grad_sample_mode=mode,
    )
    losses = criterion[0] if criterion else Losses(spec)
    for tensors in poisson:
        batch = as_batch(template, tensors)
        optimizer.zero_grad()
        losses(module, batch).backward()
        optimizer.step()
        clipped = engine_sums(spec, random_weights(spec), batch, CLIP)
        assert relative_difference(released(spec, module), clipped) < 1e-5
