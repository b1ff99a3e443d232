"""The gradient of a table of which a batch reads few rows, never held as a table per learner.

Each reading adds a multiple of one vector to one row of the table's gradient. What a learner adds
to a row is summed over their readings of it, so work and memory follow the readings, not the size
of the table: a catalogue of a million items costs a learner no more than one of a hundred.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from cloister_client.kernels import loader
from cloister_client.kernels.tables import Runs

_FLOATS_AT_ONCE = 2**18
"""Sums that are held together while they are used: few enough to stay in the cache."""


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

    @property
    def width(self) -> int:
        """How many columns the table has: D, or D + 1."""
        return self.vectors.shape[1] + self.bias

    def total(self) -> torch.Tensor:
        """(size, width) the whole gradient."""
        indices, order = torch.sort(self.indices, stable=True)
        starts = torch.searchsorted(indices, torch.arange(self.size))
        return self.sums(order, starts)

    def per_row(self, rows: int) -> torch.Tensor:
        """(rows, size, width) one table for each row of the batch; for few and small ones."""
        apart = replace(
            self, indices=self.batch_rows * self.size + self.indices, size=rows * self.size
        )
        return apart.total().view(rows, self.size, self.width)

    def by_learner(self, owners: torch.Tensor, learners: int) -> "LearnerTables":
        """The same, learner by learner; ``owners`` (rows,) says whose each row of the batch is."""
        readers = owners[self.batch_rows]
        keys, order = torch.sort(self.indices * learners + readers, stable=True)
        starts = starts_of_runs(keys)
        first = order[starts]
        return LearnerTables(self, order, starts, self.indices[first], readers[first], learners)

    def sums(self, order: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """(n, width) sums over runs of ``order``, readings, that begin at ``starts`` (n,)."""
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


@dataclass(frozen=True)
class LearnerTables:
    """A table's gradients learner by learner, as sums over runs: a learner's readings of one row.

    ``order`` holds the readings run by run; ``starts``, ``indices``, ``owners`` (runs,) say where a
    run begins, of which row it is, rising, and whose.

    A run is summed up before anything of another learner is added. Readings that hostile weights
    made huge may cancel; added to a sum that holds others' shares already, they would swallow them.
    """

    table: TableGradient
    order: torch.Tensor
    starts: torch.Tensor
    indices: torch.Tensor
    owners: torch.Tensor
    learners: int

    def squared_norms(self) -> torch.Tensor:
        """(learners,) squared norm of each learner's gradient.

        Added up in float64: rounding of a long sum may not make a norm too small.
        """
        dtype = self.table.vectors.dtype
        if loader.available(dtype):
            squares = self._runs().squares()
        else:
            parts = [torch.linalg.vector_norm(sums, dim=1).square_() for _, sums in self._sums()]
            squares = torch.cat([self.table.vectors.new_zeros(0), *parts])
        norms = torch.zeros(self.learners, dtype=torch.float64)
        return norms.index_add_(0, self.owners, squares.double()).to(dtype)

    def weighted(self, coefficients: torch.Tensor) -> torch.Tensor:
        """(size, width) sum of the gradients times ``coefficients`` (learners,).

        What has the coefficient zero is left out, even where it is not finite.
        """
        factors = coefficients[self.owners]
        total = self.table.vectors.new_zeros(self.table.size, self.table.width)
        if loader.available(total.dtype):
            self._runs().add_to(total, self.indices, factors)
            return total
        left_out = factors == 0
        for runs, sums in self._sums():
            if left_out.any():
                sums[left_out[runs]] = 0
            indices = self.indices[runs]
            first = starts_of_runs(indices)
            total[indices[first]] += functional.embedding_bag(
                torch.arange(len(sums)),
                sums,
                first,
                mode="sum",
                per_sample_weights=factors[runs],
            )
        return total

    def _runs(self) -> Runs:
        """For the compiled kernels."""
        end = self.starts.new_tensor([len(self.order)])
        return Runs(
            self.table.vectors.contiguous(),
            self.table.positions[self.order],
            self.table.weights[self.order],
            torch.cat([self.starts, end]),
            self.table.bias,
        )

    def _sums(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Some runs and their sums (n, width), a few at a time."""
        at_once = max(1, _FLOATS_AT_ONCE // self.table.width)
        ends = [*range(0, len(self.starts), at_once), len(self.starts)]
        readings = [*self.starts[::at_once].tolist(), len(self.order)]
        for place in range(len(ends) - 1):
            runs = slice(ends[place], ends[place + 1])
            order = self.order[readings[place] : readings[place + 1]]
            yield runs, self.table.sums(order, self.starts[runs] - readings[place])


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


def starts_of_runs(values: torch.Tensor) -> torch.Tensor:
    """(runs,) where each run of equal ``values`` (n,), sorted, begins."""
    begins = torch.ones(len(values), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=begins[1:])
    return begins.nonzero().squeeze(1)
