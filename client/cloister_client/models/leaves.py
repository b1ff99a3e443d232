"""Leaf modules that look up rows of a table, and what each says about its gradient.

A leaf is called once per forward. From its inputs and the gradient of its output follows the
gradient of its weight, for all learners together or for each: see ``TableGradient``. Reading
nothing (a weight of zero, a mask that is false) has no part in value or gradient.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from cloister_client.models.table_gradient import TableGradient, flat

_FLOATS_AT_ONCE = 2**18
"""Table rows that are multiplied together, so that they stay in the cache."""


@runtime_checkable
class TableLeaf(Protocol):
    """A leaf whose weight is a table."""

    weight: nn.Parameter

    def gradient(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> TableGradient:
        """The weight's gradient after ``forward(*inputs)``; ``output`` is its output's gradient."""


class LookUp(nn.Module):
    """Weighted sums of a table's rows; ``weight`` (size, D)."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table)

    def forward(self, indices: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """(R, P, D): the sum over S of ``shares`` · rows; both inputs (R, P, S)."""
        result: torch.Tensor = _LookUp.apply(self.weight, self, indices, shares)
        return result

    def gradient(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> TableGradient:
        """Each index that was read adds its share of the output's gradient (R, P, D)."""
        return gathered_gradient(self.weight, inputs, output)


class Scores(nn.Module):
    """Scores of candidates: their rows' products with a vector, plus a bias.

    ``weight`` (size, D + 1), the bias last.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table)

    def forward(
        self, vectors: torch.Tensor, indices: torch.Tensor, asked: torch.Tensor
    ) -> torch.Tensor:
        """(R, P, C) scores, 0 where not ``asked``; ``vectors`` (R, P, D), the others (R, P, C)."""
        result: torch.Tensor = _Scores.apply(self.weight, self, vectors, indices, asked)
        return result

    def gradient(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> TableGradient:
        """Each score adds its gradient, out of ``output`` (R, P, C), times the vector."""
        vectors, indices, asked = inputs
        matrix, (by_row, by_place) = flat(vectors)
        rows, places, candidates = asked.nonzero(as_tuple=True)
        return TableGradient(
            vectors=matrix,
            positions=rows * by_row + places * by_place,
            indices=indices[rows, places, candidates],
            weights=output[rows, places, candidates],
            batch_rows=rows,
            size=len(self.weight),
            bias=True,
        )


def gathered_gradient(
    weight: torch.Tensor, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
) -> TableGradient:
    """Gradient of a table of which sums of rows were taken; ``inputs`` are indices and shares."""
    indices, shares = inputs
    matrix, (by_row, by_place) = flat(output)
    rows, places, which = shares.nonzero(as_tuple=True)
    return TableGradient(
        vectors=matrix,
        positions=rows * by_row + places * by_place,
        indices=indices[rows, places, which],
        weights=shares[rows, places, which],
        batch_rows=rows,
        size=len(weight),
    )


class _LookUp(torch.autograd.Function):
    """Rows weighted and summed without the rows being kept."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, leaf: LookUp, indices: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        ctx.leaf, ctx.inputs = leaf, (indices, shares)
        return read_rows(weight, indices, shares)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.leaf.gradient(ctx.inputs, gradients[0]).total(), None, None, None


class _Scores(torch.autograd.Function):
    """Products of vectors with table rows without the rows being kept."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, leaf: Scores, *inputs: torch.Tensor
    ) -> torch.Tensor:
        ctx.leaf = leaf
        ctx.save_for_backward(weight, *inputs)
        return _scores(weight, *inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        _, indices, asked = inputs
        of_weight = None
        if ctx.needs_input_grad[0]:
            of_weight = ctx.leaf.gradient(tuple(inputs), gradients[0]).total()
        multiples = gradients[0].masked_fill(~asked, 0)
        of_vectors = read_rows(weight, indices, multiples)[..., :-1]
        return of_weight, None, of_vectors, None, None


def read_rows(weight: torch.Tensor, indices: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(R, P, D) sums over S of ``shares`` · rows of ``weight``, places first in memory.

    A share of zero reads nothing, whatever its index.
    """
    rows, places, _ = indices.shape
    result = weight.new_empty(places, rows, weight.shape[1])
    sum_rows(weight, indices.transpose(0, 1), shares.transpose(0, 1), result)
    return result.transpose(0, 1)


def sum_rows(
    weight: torch.Tensor, indices: torch.Tensor, shares: torch.Tensor, result: torch.Tensor
) -> None:
    """Write into ``result`` (..., D) the sums over S; ``indices`` and ``shares`` are (..., S)."""
    width = weight.shape[1]
    which = indices.reshape(-1, indices.shape[-1])
    parts = shares.reshape(-1, shares.shape[-1]).to(weight.dtype)
    torch.index_select(weight, 0, which[:, 0], out=result.view(-1, width))
    result.view(-1, width).mul_(parts[:, :1])
    for one in range(1, which.shape[1]):
        result.view(-1, width).addcmul_(weight.index_select(0, which[:, one]), parts[:, one, None])


def _scores(
    weight: torch.Tensor, vectors: torch.Tensor, indices: torch.Tensor, asked: torch.Tensor
) -> torch.Tensor:
    """(R, P, C) scores, computed for places at which anything is asked, some at a time."""
    width, candidates = weight.shape[1], indices.shape[2]
    matrix, (by_row, by_place) = flat(vectors)
    rows, places = asked.any(dim=2).nonzero(as_tuple=True)
    scores = vectors.new_zeros(indices.shape)
    for part in torch.arange(len(rows)).split(max(1, _FLOATS_AT_ONCE // (width * candidates))):
        at = rows[part], places[part]
        table = weight.index_select(0, indices[at].flatten()).view(-1, candidates, width)
        own = matrix.index_select(0, at[0] * by_row + at[1] * by_place)
        found = (table[..., :-1] * own.unsqueeze(1)).sum(dim=-1) + table[..., -1]
        scores[at] = found.masked_fill_(~asked[at], 0)
    return scores
