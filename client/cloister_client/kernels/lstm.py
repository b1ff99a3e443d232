"""The compiled LSTM: torch tensors in and out, shared out to threads by blocks of rows.

Only for float32 in the processor's memory, and where ``loader.available`` says so.
"""

import ctypes
from dataclasses import dataclass

import torch

from cloister_client.kernels.loader import check, loaded
from cloister_client.kernels.threads import share_out

_SHARES_PER_THREAD = 4
"""Learners are shared out in so many parts a thread, so that nobody waits long for the last."""


class _Rows(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("steps", "skills", "hidden")],
        *[
            (name, ctypes.c_void_p)
            for name in ("indices", "shares", "lengths", "gates", "cells", "states")
        ],
    ]


class _Learners(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("steps", "outputs", "inputs")],
        *[(name, ctypes.c_void_p) for name in ("deltas", "states", "lengths", "rows", "starts")],
    ]


@dataclass
class CompiledTape:
    """A finished forward run over R rows of T steps; arrays have rows first."""

    matrix: torch.Tensor
    lengths: torch.Tensor
    gates: torch.Tensor
    cells: torch.Tensor
    states: torch.Tensor
    """(R, T, H) before each step; zeros beyond a row's length."""

    def deltas(self, gradient: torch.Tensor) -> torch.Tensor:
        """(R, T, 4H) gradient of the pre-activations, in the place of the gates.

        ``gradient`` (R, T, H) is of the states.
        """
        along = gradient if gradient.stride(2) == 1 else gradient.contiguous()
        rows, packed = self._rows(), _packed(self.matrix)
        by_row, by_step = along.stride()[:2]

        def block(first: int) -> None:
            last = min(first + _block(), len(self.lengths))
            check(
                loaded().cloister_backward(
                    ctypes.byref(rows),
                    packed.data_ptr(),
                    along.data_ptr(),
                    by_row,
                    by_step,
                    first,
                    last,
                )
            )

        share_out(block, range(0, len(self.lengths), _block()))
        return self.gates

    def _rows(
        self, indices: torch.Tensor | None = None, shares: torch.Tensor | None = None
    ) -> _Rows:
        _, steps, hidden = self.states.shape
        return _Rows(
            steps,
            0 if indices is None else indices.shape[2],
            hidden,
            None if indices is None else indices.data_ptr(),
            None if shares is None else shares.data_ptr(),
            *[one.data_ptr() for one in (self.lengths, self.gates, self.cells, self.states)],
        )


def run(
    table: torch.Tensor,
    matrix: torch.Tensor,
    indices: torch.Tensor,
    shares: torch.Tensor,
    lengths: torch.Tensor,
) -> CompiledTape:
    """Step through what the rows read from ``table`` (size, 4H), with ``matrix`` (4H, H).

    ``indices`` and ``shares`` (R, T, S); ``lengths`` (R,), falling. Raises ``IndexError`` for an
    index outside the table: the kernel would read what lies there.
    """
    rows, steps, _ = indices.shape
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < len(table):
        raise IndexError(f"the table has {len(table)} rows, an index lies outside")
    hidden = matrix.shape[1]
    doubled, turned = double_cell_gate(table), _packed(double_cell_gate(matrix.t()))
    indices, shares = indices.contiguous(), shares.to(matrix.dtype).contiguous()
    cells, states = (matrix.new_empty(rows, steps, hidden) for _ in range(2))
    tape = CompiledTape(
        matrix, lengths.contiguous(), matrix.new_empty(rows, steps, 4 * hidden), cells, states
    )
    given = tape._rows(indices, shares)

    def block(first: int) -> None:
        last = min(first + _block(), rows)
        check(
            loaded().cloister_forward(
                ctypes.byref(given), doubled.data_ptr(), turned.data_ptr(), first, last
            )
        )

    share_out(block, range(0, rows, _block()))
    return tape


def clipped_sum(
    deltas: torch.Tensor,
    states: torch.Tensor,
    lengths: torch.Tensor,
    owners: torch.Tensor,
    squares: torch.Tensor,
    *,
    clip_norm: float,
    tiny: float,
) -> torch.Tensor:
    """(O, I) sum over learners of their clipped gradients, which are Σ ``deltas`` ⊗ ``states``.

    ``deltas`` (R, T, O) and ``states`` (R, T, I) with rows first in memory, of ``owners`` (R,),
    with ``lengths`` (R,) steps of which the first and the last add nothing. ``squares``
    (learners,), the squared norms of the learners' other gradients, is made up to those of the
    whole ones. ``tiny`` is added to norms.
    """
    (_, steps, outputs), inputs, learners = deltas.shape, states.shape[2], len(squares)
    order = torch.argsort(owners, stable=True)
    starts = torch.searchsorted(owners[order], torch.arange(learners + 1))
    work = torch.zeros(learners, dtype=torch.int64).index_add_(0, owners, lengths)
    given = _Learners(
        steps,
        outputs,
        inputs,
        *[one.data_ptr() for one in (deltas, states, lengths, order, starts)],
    )
    parts = _even_parts(work)
    size = loaded().cloister_gradient_size(outputs, inputs)
    totals = deltas.new_zeros(len(parts), size)

    def part(number: int) -> None:
        which = parts[number]
        check(
            loaded().cloister_clipped_sum(
                ctypes.byref(given),
                which.data_ptr(),
                len(which),
                int(work[which].max()),
                clip_norm,
                tiny,
                squares.data_ptr(),
                totals[number].data_ptr(),
            )
        )

    share_out(part, range(len(parts)))
    result, total = deltas.new_empty(outputs, inputs), totals.sum(dim=0)
    loaded().cloister_untile(total.data_ptr(), outputs, inputs, result.data_ptr())
    return result


def _even_parts(work: torch.Tensor) -> list[torch.Tensor]:
    """Learners with any ``work`` (learners,), most first, dealt out in turn."""
    busy = torch.argsort(work, descending=True, stable=True)
    busy = busy[work[busy] > 0]
    threads = torch.get_num_threads()
    count = min(len(busy), threads * _SHARES_PER_THREAD if threads > 1 else 1)
    return [busy[first::count].contiguous() for first in range(count)]


def _packed(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (depth, columns) in the order in which products read it."""
    depth, columns = matrix.shape
    packed = matrix.new_empty(loaded().cloister_packed_size(depth, columns))
    loaded().cloister_pack(matrix.data_ptr(), depth, columns, *matrix.stride(), packed.data_ptr())
    return packed


def double_cell_gate(array: torch.Tensor) -> torch.Tensor:
    """A copy of ``array`` (..., 4H) whose third quarter, the cell gate's, is doubled."""
    copy = array.contiguous().clone()
    copy.chunk(4, dim=1)[2].mul_(2)
    return copy


def _block() -> int:
    return int(loaded().cloister_block())
