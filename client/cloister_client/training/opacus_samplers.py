"""Our leaves as Opacus knows leaves: what a batch's rows, its samples, add to a weight's gradient.

With these, our modules run through Opacus's own hooks and ghost clipping, where a row and not a
learner is the sample. The private engine takes from here only leaves that have no way of their own.
"""

from collections.abc import Sequence

import torch
from opacus import GradSampleModule
from opacus.grad_sample import register_grad_sampler, register_norm_sampler
from torch import nn

from cloister_client.models.leaves import LookUp, Scores
from cloister_client.models.recurrence import InputGates, StateGates

_ROWS_AT_ONCE = 16
"""Matrix gradients that are held together while their norms are taken."""

ByWeight = dict[nn.Parameter, torch.Tensor]


def is_known(leaf: nn.Module) -> bool:
    """Whether Opacus has gradients by row of this type of leaf, without going through functorch."""
    return type(leaf) in GradSampleModule.GRAD_SAMPLERS


def gradients_by_row(
    leaf: nn.Module, inputs: Sequence[torch.Tensor], output: torch.Tensor
) -> torch.Tensor:
    """(rows, *shape) the weight's gradient; ``output`` is the gradient of the leaf's output."""
    sampler = GradSampleModule.GRAD_SAMPLERS[type(leaf)]
    by_row: torch.Tensor = sampler(leaf, list(inputs), output)[leaf.get_parameter("weight")]
    return by_row


@register_grad_sampler([LookUp, Scores, InputGates])
def table_gradients(
    leaf: LookUp | Scores | InputGates, inputs: Sequence[torch.Tensor], output: torch.Tensor
) -> ByWeight:
    """(rows, size, D) a whole table for every row."""
    return {leaf.weight: leaf.gradient(tuple(inputs), output).per_row(len(output))}


@register_norm_sampler([LookUp, Scores, InputGates])
def table_norms(
    leaf: LookUp | Scores | InputGates, inputs: Sequence[torch.Tensor], output: torch.Tensor
) -> ByWeight:
    """(rows,) norms, from what was read."""
    rows = len(output)
    tables = leaf.gradient(tuple(inputs), output).by_learner(torch.arange(rows), rows)
    return {leaf.weight: tables.squared_norms().sqrt_()}


@register_grad_sampler(StateGates)
def matrix_gradients(
    leaf: StateGates, inputs: Sequence[torch.Tensor], output: torch.Tensor
) -> ByWeight:
    """(rows, 4H, H) a whole matrix for every row."""
    states, lengths = inputs
    return {leaf.weight: _outer_products(states, lengths, output)}


@register_norm_sampler(StateGates)
def matrix_norms(
    leaf: StateGates, inputs: Sequence[torch.Tensor], output: torch.Tensor
) -> ByWeight:
    """(rows,) norms; only few matrices are held at once."""
    states, lengths = inputs
    norms = [
        torch.linalg.vector_norm(_outer_products(*part), dim=(1, 2))
        for part in zip(
            *(one.split(_ROWS_AT_ONCE) for one in (states, lengths, output)), strict=True
        )
    ]
    return {leaf.weight: torch.cat(norms)}


def _outer_products(
    states: torch.Tensor, lengths: torch.Tensor, deltas: torch.Tensor
) -> torch.Tensor:
    """(rows, 4H, H) sums over the true steps; what lies beyond them may be anything."""
    beyond = torch.arange(states.shape[1]) >= lengths.unsqueeze(1)
    states, deltas = (array.masked_fill(beyond.unsqueeze(2), 0) for array in (states, deltas))
    return torch.einsum("rto,rti->roi", deltas, states)
