"""The compiled training of a round's clients, shared out to threads by spans of clients."""

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cloister_client.kernels.loader import check, loaded
from cloister_client.kernels.threads import share_out

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Positions = NDArray[np.int32]


_TABLES = ("input", "output", "item_bias", "practice", "skill_practice")
_SINGLE = ("weights", "shares", "correct", "practice", "skill_practice", "factors")
_ARRAYS = {
    **dict.fromkeys(("turned", "recurrent"), np.float32),
    **dict.fromkeys(("clients", "starts", "lengths", "places"), np.int64),
    **dict.fromkeys(_SINGLE, np.float32),
    **dict.fromkeys(("read", "asked", "items"), np.int32),
}


class _Round(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("units", "skills", "steps")],
        *[(name, ctypes.c_int64 * len(_TABLES)) for name in ("rows", "widths")],
        *[(name, ctypes.c_float) for name in ("rate", "clip", "tiny")],
        ("tables", ctypes.c_void_p * len(_TABLES)),
        *[(name, ctypes.c_void_p) for name in _ARRAYS],
    ]


class _Sums(ctypes.Structure):
    _fields_ = [("tables", ctypes.c_void_p * len(_TABLES)), ("turned", ctypes.c_void_p)]


@dataclass(frozen=True)
class ClientWindows:
    """C clients' W windows, client by client, over N answers of at most S skills.

    ``clients`` (C + 1,) says where each client's windows begin; ``starts`` and ``lengths`` (W,)
    where a window lies in the answers, ``weights`` (W,) what the losses of its answers are
    multiplied with. An answer with ``shares`` (N, S), zero where padded, reads rows ``read`` (N, S)
    of the input table and asks for rows ``asked`` (N, S) of the output table; ``correct`` (N,).
    ``items`` (N,) and ``practice`` (N, F) are for a tracer's item bias and weights of practice,
    ``skill_practice`` (N, G, S), zero where padded, for what a skill makes of its own G features.
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
    items: Positions
    practice: Floats
    skill_practice: Floats
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
    weights: Mapping[str, Floats], windows: ClientWindows, descent: Descent, *, threads: int
) -> dict[str, Floats]:
    """The weighted sum of the clients' updates; an update is the sum of a client's gradients.

    ``weights`` are named and shaped as those of :class:`DktSpec`. Clients are divided among
    ``threads`` by their work; the sum does not depend on which of them is faster. Raises
    ``IndexError`` for a row outside a table: the kernel would read what lies there.
    """
    _check_rows(weights, windows)
    if descent.is_linear:
        windows = windows.weighted()
    hidden = weights["recurrent"].shape[1]
    common = _filled_up(weights, -hidden % int(loaded().cloister_lanes()))
    places = np.concatenate([[0], np.cumsum(windows.lengths)])
    arrays = _arrays(common["recurrent"], windows, places)
    tables = [common.get(name, np.zeros((0, 0), np.float32)) for name in _TABLES]
    given = _Round(
        units=common["recurrent"].shape[1],
        skills=windows.read.shape[1],
        rows=_counts(len(table) for table in tables),
        widths=_counts(table.shape[1] for table in tables),
        tables=_addresses(tables),
        **vars(descent),
        **{name: array.ctypes.data for name, array in arrays.items()},
    )
    spans = _spans(places[windows.clients], threads)
    sums = [[np.zeros_like(one) for one in (*tables, arrays["turned"])] for _ in spans]

    def part(number: int) -> None:
        *of_tables, turned = sums[number]
        own = _Sums(_addresses(of_tables), turned.ctypes.data)
        kernel = loaded().cloister_train_clients
        check(kernel(ctypes.byref(given), *spans[number], ctypes.byref(own)))

    share_out(part, range(len(spans)), threads)
    *of_tables, turned = (sum(one[1:], one[0]) for one in zip(*sums, strict=True))
    total = {**dict(zip(_TABLES, of_tables, strict=True)), "recurrent": turned.T}
    return _cut({name: total[name] for name in weights}, hidden)


def _arrays(matrix: Floats, windows: ClientWindows, places: Ints) -> dict[str, NDArray[np.generic]]:
    """All that the kernel reads but the tables, by the names it has there."""
    found = {**vars(windows), "turned": matrix.T, "recurrent": matrix, "places": places}
    return {name: np.ascontiguousarray(found[name], dtype) for name, dtype in _ARRAYS.items()}


def _counts(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(_TABLES))(*values)


def _addresses(arrays: Sequence[Floats]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])


def _check_rows(weights: Mapping[str, Floats], windows: ClientWindows) -> None:
    read = {"input": windows.read, "output": windows.asked, "item_bias": windows.items}
    for name in weights.keys() & read.keys():
        rows, size = read[name], len(weights[name])
        if rows.size and not 0 <= rows.min() <= rows.max() < size:
            raise IndexError(f"the table {name!r} has {size} rows, an index lies outside")
    features = windows.practice.shape[1], windows.skill_practice.shape[1] * len(weights["output"])
    if "practice" in weights and features != (
        weights["practice"].shape[1],
        len(weights["skill_practice"]),
    ):
        raise IndexError("practice has as many features as weights")


def _spans(ends: Ints, threads: int) -> list[tuple[int, int]]:
    """At least one span of clients, and about as much work in each; ``ends`` (C + 1,) summed up."""
    wanted = ends[-1] * np.arange(1, threads) / threads
    inner = np.searchsorted(ends, wanted).tolist()
    return list(pairwise([0, *inner, len(ends) - 1]))


def _filled_up(weights: Mapping[str, Floats], missing: int) -> dict[str, Floats]:
    """The same with ``missing`` more units, whose weights are zero; each in one piece."""
    units = weights["recurrent"].shape[1]
    filled = dict(weights)
    if missing:
        table = weights["input"].reshape(-1, 4, units)
        matrix = weights["recurrent"].reshape(4, units, units)
        output = weights["output"]
        none = np.zeros((len(output), missing), np.float32)
        filled["input"] = np.pad(table, ((0, 0), (0, 0), (0, missing))).reshape(len(table), -1)
        filled["recurrent"] = np.pad(matrix, ((0, 0), (0, missing), (0, missing))).reshape(
            -1, units + missing
        )
        filled["output"] = np.concatenate([output[:, :-1], none, output[:, -1:]], axis=1)
    return {name: np.ascontiguousarray(array, np.float32) for name, array in filled.items()}


def _cut(weights: dict[str, Floats], units: int) -> dict[str, Floats]:
    """The same with the first ``units`` units only."""
    known = weights["recurrent"].shape[1]
    if known == units:
        return weights
    table = weights["input"].reshape(-1, 4, known)[:, :, :units]
    matrix = weights["recurrent"].reshape(4, known, known)[:, :units, :units]
    output = weights["output"]
    return {
        **weights,
        "input": table.reshape(len(table), -1),
        "recurrent": matrix.reshape(-1, units),
        "output": np.concatenate([output[:, :units], output[:, -1:]], axis=1),
    }
