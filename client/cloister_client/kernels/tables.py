"""Compiled sums over runs of readings, shared out to threads; see ``models.table_gradient``."""

import ctypes
from dataclasses import dataclass
from itertools import pairwise

import torch

from cloister_client.kernels.loader import check, loaded
from cloister_client.kernels.threads import share_out

_PARTS_PER_THREAD = 4


class _Runs(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("width", "bias")],
        *[(name, ctypes.c_void_p) for name in ("vectors", "positions", "weights", "starts")],
    ]


@dataclass(frozen=True)
class Runs:
    """Readings run by run: run r has those from ``starts[r]`` to ``starts[r + 1]``.

    ``vectors`` (P, D) float32; ``positions`` (readings,) int64 into them and ``weights``
    (readings,); ``bias`` says whether a run's sum has its weights' sum as one more column.
    """

    vectors: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    starts: torch.Tensor
    bias: bool

    def squares(self) -> torch.Tensor:
        """(runs,) squared norm of each run's sum."""
        squares = self.vectors.new_empty(len(self.starts) - 1)
        given = self._given()

        def part(span: tuple[int, int]) -> None:
            check(loaded().cloister_run_norms(ctypes.byref(given), *span, squares.data_ptr()))

        share_out(part, _parts(torch.arange(len(squares))))
        return squares

    def add_to(self, total: torch.Tensor, indices: torch.Tensor, factors: torch.Tensor) -> None:
        """Add each run's sum times its factor to row ``indices`` (runs,), rising, of ``total``."""
        if len(indices) and not 0 <= int(indices[0]) <= int(indices[-1]) < len(total):
            raise IndexError(f"the table has {len(total)} rows, an index lies outside")
        given = self._given()

        def part(span: tuple[int, int]) -> None:
            check(
                loaded().cloister_add_runs(
                    ctypes.byref(given),
                    *span,
                    indices.data_ptr(),
                    factors.data_ptr(),
                    total.data_ptr(),
                )
            )

        share_out(part, _parts(indices))

    def _given(self) -> _Runs:
        arrays = (self.vectors, self.positions, self.weights, self.starts)
        return _Runs(self.vectors.shape[1], int(self.bias), *[array.data_ptr() for array in arrays])


def _parts(keys: torch.Tensor) -> list[tuple[int, int]]:
    """Spans of about equal length over ``keys`` (n,), rising, that divide no run of equal ones."""
    threads = torch.get_num_threads()
    count = threads * _PARTS_PER_THREAD if threads > 1 else 1
    if not len(keys):
        return []
    places = torch.linspace(0, len(keys), count + 1).long()[1:-1]
    inner = sorted(set(torch.searchsorted(keys, keys[places]).tolist()))
    bounds = [0, *[bound for bound in inner if bound], len(keys)]
    return list(pairwise(bounds))
