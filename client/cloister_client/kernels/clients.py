"""The compiled training of a round's clients, shared out to threads by spans of clients."""

import ctypes
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloister_client.kernels.loader import check, loaded
from cloister_client.kernels.threads import share_out

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Positions = NDArray[np.int32]


_ARRAYS = {
    **dict.fromkeys(("input", "turned", "recurrent", "output"), np.float32),
    **dict.fromkeys(("clients", "starts", "lengths", "places"), np.int64),
    **dict.fromkeys(("weights", "shares", "correct", "factors"), np.float32),
    **dict.fromkeys(("read", "asked"), np.int32),
}
_SUMS = ("input", "turned", "output")


class _Round(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("units", "skills", "inputs", "outputs", "steps")],
        *[(name, ctypes.c_float) for name in ("rate", "clip", "tiny")],
        *[(name, ctypes.c_void_p) for name in _ARRAYS],
    ]


class _Sums(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _SUMS]


@dataclass(frozen=True)
class TracerWeights:
    """A knowledge tracer's weights, or a sum of gradients of them.

    ``input`` (I, 4H), ``recurrent`` (4H, H), ``output`` (O, H + 1), the bias last.
    """

    input: Floats
    recurrent: Floats
    output: Floats


@dataclass(frozen=True)
class ClientWindows:
    """C clients' W windows, client by client, over N answers of at most S skills.

    ``clients`` (C + 1,) says where each client's windows begin; ``starts`` and ``lengths`` (W,)
    where a window lies in the answers, ``weights`` (W,) what the losses of its answers are
    multiplied with. An answer with ``shares`` (N, S), zero where padded, reads rows ``read`` (N, S)
    of the input table and asks for rows ``asked`` (N, S) of the output table; ``correct`` (N,).
    ``factors`` (C,) is what a client's update weighs.
    """

    clients: Ints
    starts: Ints
    lengths: Ints
    weights: Floats
    read: Positions
    asked: Positions
    shares: Floats
    correct: Floats
    factors: Floats

    def weighted(self) -> "ClientWindows":
        """The same with the clients' factors in the windows' weights."""
        return replace(self, weights=self.weights * self.factors.repeat(np.diff(self.clients)))


@dataclass(frozen=True)
class Descent:
    """``steps`` steps of plain descent at ``rate``; updates clipped to ``clip`` (0: not).

    ``tiny`` is added to norms.
    """

    steps: int
    rate: float
    clip: float
    tiny: float

    @property
    def is_linear(self) -> bool:
        """Whether updates are gradients and nothing is done to them but to add them up."""
        return self.steps == 1 and self.clip == 0


def train_clients(
    weights: TracerWeights, windows: ClientWindows, descent: Descent, *, threads: int
) -> TracerWeights:
    """The weighted sum of the clients' updates; an update is the sum of a client's gradients.

    Clients are divided among ``threads`` by their work; the sum does not depend on which of them is
    faster. Raises ``IndexError`` for a row outside a table: the kernel would read what lies there.
    """
    _check_rows(windows.read, len(weights.input))
    _check_rows(windows.asked, len(weights.output))
    if descent.is_linear:
        windows = windows.weighted()
    hidden = weights.recurrent.shape[1]
    common = _filled_up(weights, -hidden % int(loaded().cloister_lanes()))
    places = np.concatenate([[0], np.cumsum(windows.lengths)])
    arrays = _arrays(common, windows, places)
    given = _Round(
        units=common.recurrent.shape[1],
        skills=windows.read.shape[1],
        inputs=len(common.input),
        outputs=len(common.output),
        **vars(descent),
        **{name: array.ctypes.data for name, array in arrays.items()},
    )
    spans = _spans(places[windows.clients], threads)
    sums = [{name: np.zeros_like(arrays[name]) for name in _SUMS} for _ in spans]

    def part(number: int) -> None:
        own = _Sums(**{name: array.ctypes.data for name, array in sums[number].items()})
        kernel = loaded().cloister_train_clients
        check(kernel(ctypes.byref(given), *spans[number], ctypes.byref(own)))

    share_out(part, range(len(spans)), threads)
    total = {name: sum((one[name] for one in sums[1:]), sums[0][name]) for name in _SUMS}
    return _cut(TracerWeights(total["input"], total["turned"].T, total["output"]), hidden)


def _arrays(
    weights: TracerWeights, windows: ClientWindows, places: Ints
) -> dict[str, NDArray[np.generic]]:
    """All that the kernel reads, by the names it has there."""
    found = {**vars(weights), **vars(windows), "turned": weights.recurrent.T, "places": places}
    return {name: np.ascontiguousarray(found[name], dtype) for name, dtype in _ARRAYS.items()}


def _check_rows(rows: Positions, size: int) -> None:
    if rows.size and not 0 <= rows.min() <= rows.max() < size:
        raise IndexError(f"the table has {size} rows, an index lies outside")


def _spans(ends: Ints, threads: int) -> list[tuple[int, int]]:
    """At least one span of clients, and about as much work in each; ``ends`` (C + 1,) summed up."""
    wanted = ends[-1] * np.arange(1, threads) / threads
    inner = np.searchsorted(ends, wanted).tolist()
    return list(pairwise([0, *inner, len(ends) - 1]))


def _filled_up(weights: TracerWeights, missing: int) -> TracerWeights:
    """The same with ``missing`` more units, whose weights are zero."""
    if not missing:
        return weights
    units = weights.recurrent.shape[1]
    table = weights.input.reshape(-1, 4, units)
    matrix = weights.recurrent.reshape(4, units, units)
    output = np.zeros((len(weights.output), units + missing + 1), np.float32)
    output[:, :units], output[:, -1] = weights.output[:, :-1], weights.output[:, -1]
    return TracerWeights(
        np.pad(table, ((0, 0), (0, 0), (0, missing))).reshape(len(table), -1),
        np.pad(matrix, ((0, 0), (0, missing), (0, missing))).reshape(-1, units + missing),
        output,
    )


def _cut(weights: TracerWeights, units: int) -> TracerWeights:
    """The same with the first ``units`` units only."""
    known = weights.recurrent.shape[1]
    if known == units:
        return weights
    table = weights.input.reshape(-1, 4, known)[:, :, :units]
    matrix = weights.recurrent.reshape(4, known, known)[:, :units, :units]
    return TracerWeights(
        table.reshape(len(table), -1),
        matrix.reshape(-1, units),
        np.concatenate([weights.output[:, :units], weights.output[:, -1:]], axis=1),
    )
