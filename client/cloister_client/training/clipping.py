"""Clipping each learner's gradient over all leaves, without any learner's gradient being held.

Book-keeping (Bu et al., "Differentially Private Optimization on Large Model at Small Cost", ICML
2023, section 3): norms and clipped sums follow from what entered the leaves and the gradients of
what left them, out of one backward. A learner's rows are summed before the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from cloister_client.models.leaves import TableLeaf
from cloister_client.models.recurrence import StateGates
from cloister_client.training.coefficients import coefficients_for, squared_norms
from cloister_client.training.matrix_gradient import MatrixGradient
from cloister_client.training.opacus_samplers import gradients_by_row


@dataclass(frozen=True)
class LeafCall:
    """One call of a leaf: its inputs, and the gradient of its output."""

    leaf: nn.Module
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor


class LearnerGradients(Protocol):
    """One leaf's gradient, learner by learner."""

    def squared_norms(self) -> torch.Tensor:
        """(learners,) squared norm of each learner's gradient."""

    def weighted(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Sum of the gradients times ``coefficients`` (learners,), one of zero leaving one out."""


def is_small(leaf: nn.Module) -> bool:
    """Whether a leaf's gradient is held once for every row: it has no way of its own."""
    return not isinstance(leaf, TableLeaf | StateGates)


def clipped_sums(
    calls: Sequence[LeafCall], owners: torch.Tensor, learners: int, clip_norm: float
) -> list[torch.Tensor]:
    """For the weight of each called leaf, the sum over learners of their clipped gradients.

    ``owners`` (rows,) says whose each row of the batch is. A learner whose gradient has no finite
    norm contributes zero: it is never released raw.
    """
    matrices = {
        place: _matrix_gradient(call, owners)
        for place, call in enumerate(calls)
        if isinstance(call.leaf, StateGates)
    }
    others = {
        place: _learner_gradients(call, owners, learners)
        for place, call in enumerate(calls)
        if place not in matrices
    }
    squares = calls[0].output.new_zeros(learners)
    for other in others.values():
        squares += other.squared_norms()
    sums: dict[int, torch.Tensor] = {}
    if matrices:
        ((place, matrix),) = matrices.items()
        sums[place] = matrix.clipped_sum(squares, clip_norm)
    coefficients = coefficients_for(squares, clip_norm)
    for place, other in others.items():
        sums[place] = other.weighted(coefficients)
    return [sums[place] for place in range(len(calls))]


@dataclass(frozen=True)
class _SmallGradients:
    """Gradients that are held, one a learner: for leaves with few weights, and of other kinds."""

    gradients: torch.Tensor

    def squared_norms(self) -> torch.Tensor:
        return squared_norms(self.gradients.flatten(1))

    def weighted(self, coefficients: torch.Tensor) -> torch.Tensor:
        kept = coefficients != 0
        return torch.einsum("n,n...->...", coefficients[kept], self.gradients[kept])


def _learner_gradients(call: LeafCall, owners: torch.Tensor, learners: int) -> LearnerGradients:
    if isinstance(call.leaf, TableLeaf):
        return call.leaf.gradient(call.inputs, call.output).by_learner(owners, learners)
    by_row = gradients_by_row(call.leaf, call.inputs, call.output)
    summed = by_row.new_zeros(learners, *by_row.shape[1:])
    return _SmallGradients(summed.index_add_(0, owners, by_row))


def _matrix_gradient(call: LeafCall, owners: torch.Tensor) -> MatrixGradient:
    states, lengths = call.inputs
    return MatrixGradient(call.output, states, lengths, owners)
