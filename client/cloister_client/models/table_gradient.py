"""The gradient of a table of which a batch reads few rows, never held as a table per learner.

Each reading adds a multiple of one vector to one row of the table's gradient. What a learner adds
to a row is summed over their readings of it, so work and memory follow the readings, not the size
of the table: a catalogue of a million items costs a learner no more than one of a hundred.
"""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional

_FLOATS_AT_ONCE = 2**20
"""Sums that are held together while their norms are taken: few enough to stay in the cache."""


@dataclass(frozen=True)
class TableGradient:
    """R readings: reading r adds ``weights[r] · vectors[positions[r]]`` to row ``indices[r]``.

    ``vectors`` (P, D); ``positions``, ``indices``, ``batch_rows`` (R,) int64; ``weights`` (R,).
    ``batch_rows`` says which row of the batch reads. ``size`` is the table's number of rows. With
    ``bias`` the table has one more column, to which a reading adds its weight alone.
    """

    vectors: torch.Tensor
    positions: torch.Tensor
    indices: torch.Tensor
    weights: torch.Tensor
    batch_rows: torch.Tensor
    size: int
    bias: bool = False

    def total(self) -> torch.Tensor:
        """(size, D or D + 1) the whole gradient."""
        indices, order = torch.sort(self.indices, stable=True)
        starts = torch.searchsorted(indices, torch.arange(self.size))
        return self._sums(order, starts)

    def weighted(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The gradient with each batch row's part times ``coefficients`` (rows,).

        What has the coefficient zero is left out, even where it is not finite.
        """
        factors = coefficients[self.batch_rows]
        scaled = replace(self, weights=self.weights * factors)
        return (scaled if factors.all() else scaled._only(factors != 0)).total()

    def squared_norms(self, owners: torch.Tensor, count: int) -> torch.Tensor:
        """(count,) squared norms; ``owners`` (rows,) says whose each row of the batch is."""
        readers = owners[self.batch_rows]
        keys, order = torch.sort(readers * self.size + self.indices, stable=True)
        starts = _starts_of_runs(keys)
        norms = self.vectors.new_zeros(count)
        at_once = max(1, _FLOATS_AT_ONCE // self.vectors.shape[1])
        for first in range(0, len(starts), at_once):
            part = starts[first : first + at_once]
            end = starts[first + at_once] if first + at_once < len(starts) else len(order)
            sums = self._sums(order[part[0] : end], part - part[0])
            squares = torch.linalg.vector_norm(sums, dim=1).square_()
            norms.index_add_(0, readers[order[part]], squares)
        return norms

    def per_row(self, rows: int) -> torch.Tensor:
        """(rows, size, D or D + 1) one table for each row of the batch; for few and small ones."""
        apart = replace(
            self, indices=self.batch_rows * self.size + self.indices, size=rows * self.size
        )
        return apart.total().view(rows, self.size, self.vectors.shape[1] + self.bias)

    def _sums(self, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """(n, D or D + 1) sums over runs of ``order``, readings, that begin at ``starts`` (n,)."""
        weights = self.weights[order]
        sums = functional.embedding_bag(
            self.positions[order], self.vectors, starts, mode="sum", per_sample_weights=weights
        )
        if not self.bias:
            return sums
        biases = functional.embedding_bag(
            torch.zeros_like(order),
            weights.new_ones(1, 1),
            starts,
            mode="sum",
            per_sample_weights=weights,
        )
        return torch.cat([sums, biases], dim=1)

    def _only(self, kept: torch.Tensor) -> "TableGradient":
        return replace(
            self,
            positions=self.positions[kept],
            indices=self.indices[kept],
            weights=self.weights[kept],
            batch_rows=self.batch_rows[kept],
        )


def flat(vectors: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """A (rows, places, D) tensor as a matrix of vectors (n, D), without a copy where possible.

    Also by how much a vector's position in it grows with the row and with the place. The matrix may
    have vectors of nobody in between.
    """
    rows, places, width = vectors.shape
    by_row, by_place, by_column = vectors.stride()
    if by_column != 1 or by_row % width or by_place % width or not vectors.numel():
        return vectors.reshape(rows * places, width), (places, 1)
    steps = by_row // width, by_place // width
    count = (rows - 1) * steps[0] + (places - 1) * steps[1] + 1
    return vectors.as_strided((count, width), (width, 1)), steps


def _starts_of_runs(values: torch.Tensor) -> torch.Tensor:
    """(runs,) where each run of equal ``values`` (n,), sorted, begins."""
    begins = torch.ones(len(values), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=begins[1:])
    return begins.nonzero().squeeze(1)
