"""Gradients per learner: by our engine, by Opacus's hooks, by Opacus's ghost clipping."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping

from cloister_client.histories import History
from cloister_client.kernels import loader
from cloister_client.models import Batch, model_kind
from cloister_client.training.clipping import LeafCall, clipped_sums
from cloister_client.training.engine import PrivateEngine, Task, build_module
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import KeyedNoise

Gradients = dict[str, torch.Tensor]
"""(learners, *shape) by weight name."""

WIDE_CLIP = 1e30
"""More than the length of any gradient: nothing is clipped."""


def make_batch(
    spec: ModelSpec, histories: Sequence[History], local: LocalTraining, key: int = 1
) -> Batch:
    return model_kind(spec).batch(spec, histories, local, KeyedNoise(key))


def leaf_calls(
    spec: ModelSpec, weights: Weights, batch: Batch, dtype: torch.dtype = torch.float32
) -> list[LeafCall]:
    """What the engine knows of a batch after its backward, a call for each weight of the spec."""
    kind = model_kind(spec)
    task = Task(
        module=build_module(spec, kind, weights).to(dtype),
        spec=spec,
        kind=kind,
        local=LocalTraining(),
        mechanism=Mechanism(noise_multiplier=1.0, clip_norm=1.0, sampling_rate=1.0),
        declared_size=1,
        noise=KeyedNoise(1),
    )
    return PrivateEngine(task).backward(batch)


@contextmanager
def without_kernels() -> Iterator[None]:
    """Everything in PyTorch, as on a machine without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "available", lambda dtype: False)
        yield


def check_engine(spec: ModelSpec, weights: Weights, batch: Batch, reference: Gradients) -> None:
    """Learner by learner, and clipped to the median length, the engine's gradients are these."""
    clip_norm = norms_of(reference).median().item() or 1.0
    clipped = clipped_sum_of(reference, clip_norm)

    def check(given: Batch, dtype: torch.dtype, tolerance: float) -> None:
        found = engine_gradients(spec, weights, given, dtype)
        assert relative_difference(found, reference) < tolerance
        total = engine_sums(spec, weights, given, clip_norm, dtype)
        assert relative_difference(total, clipped) < tolerance

    check(batch, torch.float32, 1e-5)
    check(in_double(batch), torch.float64, 1e-9)
    with without_kernels():
        check(batch, torch.float32, 1e-5)


def check_opacus(spec: ModelSpec, weights: Weights, batch: Batch, reference: Gradients) -> None:
    """Opacus's hooks give these gradients of learners; its ghost clipping gives rows' lengths."""
    for given, dtype, tolerance in (
        (batch, torch.float32, 1e-5),
        (in_double(batch), torch.float64, 1e-9),
    ):
        found = hooked_gradients(spec, weights, given, dtype)
        assert relative_difference(found, reference) < tolerance
        rows = norms_of(hooked_gradients(spec, weights, row_by_row(given), dtype))
        norms = ghost_norms(spec, weights, given, dtype)
        torch.testing.assert_close(norms.double(), rows, rtol=tolerance, atol=1e-12)


def engine_gradients(
    spec: ModelSpec, weights: Weights, batch: Batch, dtype: torch.dtype = torch.float32
) -> Gradients:
    """As the private engine forms them: its sum without clipping, one learner's part at a time."""
    calls = leaf_calls(spec, weights, batch, dtype)
    found = [
        clipped_sums(_only(learner, calls, batch), batch.learner_of_row, batch.learners, WIDE_CLIP)
        for learner in range(batch.learners)
    ]
    return {
        name: torch.stack([sums[place] for sums in found]) if found else torch.zeros(0, *shape)
        for place, (name, shape) in enumerate(spec.shapes().items())
    }


def engine_sums(
    spec: ModelSpec,
    weights: Weights,
    batch: Batch,
    clip_norm: float,
    dtype: torch.dtype = torch.float32,
) -> Gradients:
    """(1, *shape) sum of the learners' clipped gradients, by weight name."""
    calls = leaf_calls(spec, weights, batch, dtype)
    sums = clipped_sums(calls, batch.learner_of_row, batch.learners, clip_norm)
    return {name: one.unsqueeze(0) for name, one in zip(spec.shapes(), sums, strict=True)}


def clipped_sum_of(gradients: Gradients, clip_norm: float) -> Gradients:
    """(1, *shape) the same from gradients per learner, by Abadi et al. 2016, algorithm 1."""
    factors = (clip_norm / (norms_of(gradients) + 1e-6)).clamp(max=1)
    return {
        name: torch.einsum("n,n...->...", factors, part.double()).unsqueeze(0)
        for name, part in gradients.items()
    }


def norms_of(gradients: Gradients) -> torch.Tensor:
    """(learners,) float64 length of each learner's whole gradient."""
    return _flat(gradients).norm(dim=1)


def hooked_gradients(
    spec: ModelSpec, weights: Weights, batch: Batch, dtype: torch.dtype = torch.float32
) -> Gradients:
    """By Opacus's hooks, through what it calls samples: our rows."""
    module = GradSampleModule(_build(spec, weights, dtype), loss_reduction="sum")
    _backward(spec, module, batch)
    return {
        name: _of_learners(module._module.get_parameter(f"{name}.weight").grad_sample, batch)
        for name in spec.shapes()
    }


def ghost_norms(
    spec: ModelSpec, weights: Weights, batch: Batch, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(rows,) by Opacus's ghost clipping, which knows rows and not learners."""
    module = GradSampleModuleFastGradientClipping(
        _build(spec, weights, dtype), loss_reduction="sum"
    )
    _backward(spec, module, batch)
    return module.get_norm_sample()


def row_by_row(batch: Batch) -> Batch:
    """The batch with each row a learner of its own."""
    rows = len(batch.learner_of_row)
    return replace(batch, learner_of_row=torch.arange(rows), learners=rows)


def in_double(batch: Batch) -> Batch:
    """The batch with its shares and weights, which are reciprocals of counts, in float64."""
    inputs = batch.inputs
    exact = {
        name: _reciprocal(getattr(inputs, name))
        for name in ("shares", "weights")
        if hasattr(inputs, name)
    }
    others = ("correct", "practice", "skill_practice", "recency")
    exact |= {name: getattr(inputs, name).double() for name in others if hasattr(inputs, name)}
    return replace(batch, inputs=replace(inputs, **exact))


def relative_difference(ours: Gradients, reference: Gradients) -> float:
    """The largest distance of any learner's whole gradient, relative to its length."""
    distances = [
        ((mine - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()
        for mine, theirs in zip(_flat(ours), _flat(reference), strict=True)
    ]
    return max(distances, default=0.0)


def _only(learner: int, calls: Sequence[LeafCall], batch: Batch) -> list[LeafCall]:
    """The calls as they would be if no other learner had a gradient."""
    own = (batch.learner_of_row == learner).view(-1, 1, 1)
    return [replace(call, output=call.output * own) for call in calls]


def _build(spec: ModelSpec, weights: Weights, dtype: torch.dtype) -> torch.nn.Module:
    return model_kind(spec).build(spec, weights).to(dtype)


def _backward(spec: ModelSpec, module: torch.nn.Module, batch: Batch) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        model_kind(spec).loss(module, batch).sum().backward()


def _of_learners(by_row: torch.Tensor, batch: Batch) -> torch.Tensor:
    summed = by_row.new_zeros(batch.learners, *by_row.shape[1:])
    return summed.index_add_(0, batch.learner_of_row, by_row)


def _reciprocal(rounded: torch.Tensor) -> torch.Tensor:
    counts = (1 / rounded.double()).round()
    return torch.where(rounded > 0, 1 / counts, torch.zeros_like(counts))


def _flat(gradients: Gradients) -> torch.Tensor:
    return torch.cat([part.double().flatten(1) for part in gradients.values()], dim=1)
