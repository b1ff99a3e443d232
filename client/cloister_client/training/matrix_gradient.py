"""The gradient of a recurrent matrix, learner by learner: formed, measured, clipped and added up.

A learner's gradient has as many entries as the matrix, and is a product of what their answers left
behind. It is formed once, for a few learners at a time, and used while it is in the cache; so there
is neither a gradient per learner in memory nor a second backward.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from cloister_client.kernels import loader, lstm
from cloister_client.models.table_gradient import flat
from cloister_client.training.coefficients import TINY, coefficients_for, squared_norms

_FLOATS_AT_ONCE = 2**18
"""Gradients of learners that are formed together."""
_WHOLE = 8
"""Products are of a multiple of so many answers and columns: there rounding varies neither with
padding nor with how threads divide the work."""


@dataclass(frozen=True)
class MatrixGradient:
    """A matrix (O, I) whose gradient is a sum over steps of ``deltas`` ⊗ ``states``.

    ``deltas`` (R, T, O) and ``states`` (R, T, I), rows of ``owners`` (R,); a row's steps beyond
    ``lengths`` (R,) do not count, nor does its first, whose state is zero, nor its last, whose
    delta is.
    """

    deltas: torch.Tensor
    states: torch.Tensor
    lengths: torch.Tensor
    owners: torch.Tensor

    def clipped_sum(self, squares: torch.Tensor, clip_norm: float) -> torch.Tensor:
        """(O, I) sum over learners of their clipped gradients.

        ``squares`` (learners,), the squared norms of the learners' other gradients, is made up to
        those of the whole ones. A learner whose norm is not finite has no part in the sum.
        """
        rows_first = self.deltas.is_contiguous() and self.states.is_contiguous()
        if rows_first and loader.available(self.deltas.dtype):
            return lstm.clipped_sum(
                self.deltas,
                self.states,
                self.lengths,
                self.owners,
                squares,
                clip_norm=clip_norm,
                tiny=TINY,
            )
        return self._clipped_sum(squares, clip_norm)

    def _clipped_sum(self, squares: torch.Tensor, clip_norm: float) -> torch.Tensor:
        outputs, inputs = self.deltas.shape[2], self.states.shape[2]
        missing = -inputs % _WHOLE
        if missing:
            whole = replace(self, states=functional.pad(self.states, (0, missing)))
            return whole._clipped_sum(squares, clip_norm)[:, :inputs]
        total = self.deltas.new_zeros(inputs * outputs)
        for learners, gradients in self._gradients(len(squares)):
            flattened = gradients.flatten(1)
            squares[learners] += squared_norms(flattened)
            coefficients = coefficients_for(squares[learners], clip_norm)
            flattened[coefficients == 0] = 0
            total.addmv_(flattened.t(), coefficients)
        return total.view(inputs, outputs).t()

    def _gradients(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(learners (n,), their gradients (n, I, O)), those of similar length together.

        Learners none of whose steps counts, and whose gradient is zero, are left out.
        """
        deltas, (by_row, by_step) = flat(self.deltas)
        states, (state_by_row, state_by_step) = flat(self.states)
        answers, places = self._answers(count)
        order = torch.argsort(answers, descending=True, stable=True)
        order = order[answers[order] > 0]
        at_once = max(1, _FLOATS_AT_ONCE // (deltas.shape[1] * states.shape[1]))
        starts = torch.cumsum(answers, 0) - answers
        rows, steps = places
        for first in range(0, len(order), at_once):
            group = order[first : first + at_once]
            counts = answers[group].unsqueeze(1)
            span = torch.arange(_round_up(int(counts[0])))
            missing = span >= counts
            entries = (starts[group].unsqueeze(1) + span).masked_fill_(missing, 0).flatten()
            row, step = rows[entries], steps[entries]
            left = deltas.index_select(0, row * by_row + step * by_step)
            right = states.index_select(0, row * state_by_row + step * state_by_step)
            none = missing.flatten().nonzero().squeeze(1)
            left.index_fill_(0, none, 0)
            right.index_fill_(0, none, 0)
            left, right = (
                part.view(len(group), len(span), part.shape[1]) for part in (left, right)
            )
            yield group, torch.bmm(right.transpose(1, 2), left)

    def _answers(self, count: int) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """(learners,) how many steps of each count; and all (rows, steps) that do, by learner."""
        steps = torch.arange(self.deltas.shape[1])
        counting = (steps < self.lengths.unsqueeze(1) - 1) & (steps > 0)
        rows, places = counting.nonzero(as_tuple=True)
        owners, order = torch.sort(self.owners[rows], stable=True)
        return torch.bincount(owners, minlength=count), (rows[order], places[order])


def _round_up(answers: int) -> int:
    return -(-answers // _WHOLE) * _WHOLE
