"""A weighted mean that is added up as the parts come in, to the same bits in any order.

Floating-point addition is not associative: a sum of doubles depends on who answered first. Here
every float32 is cut into whole numbers of 32 bits, each counted in a place of its own, like digits
to the base 2³². Whole numbers add up exactly, at any scale. Of each array as many places are kept
as its numbers reach over: two, seldom three, at 8 bytes a weight, however many parts come.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from cloister_shared.errors import MessageError
from cloister_shared.model_specs import Weights
from cloister_shared.plan import MAX_LEARNERS

_BITS = 32
_Places = dict[int, NDArray[np.int64]]
"""Whole numbers by place: those at place p count 2^(32p)."""


class RunningSum:
    """Σ N̂·delta and Σ N̂ of the deltas that were added.

    In every place a delta counts for less than 2³²·N̂, and N̂ add up to at most ``MAX_LEARNERS``, so
    that no sum leaves its 64 bits.
    """

    def __init__(self) -> None:
        self._sums: dict[str, _Places] = defaultdict(dict)
        self._weight = 0

    def add(self, delta: Weights, declared_size: int) -> None:
        """Count ``delta`` as often as the node has learners.

        Raises ``MessageError`` if it is not finite, and ``OverflowError`` beyond
        ``MAX_LEARNERS``, to which every plan keeps; either way nothing is counted.
        """
        if not all(np.isfinite(array).all() for array in delta.values()):
            raise MessageError("what is to be added up is not finite")
        if self._weight + declared_size > MAX_LEARNERS:
            raise OverflowError(f"more than {MAX_LEARNERS} learners cannot be added up exactly")
        self._weight += declared_size
        for name, array in delta.items():
            _add(self._sums[name], array, declared_size)

    def mean(self) -> Weights:
        """Σ N̂·delta / Σ N̂ in float32; at least one delta must have been added."""
        return {
            name: (_total(places) / self._weight).astype(np.float32)
            for name, places in self._sums.items()
        }


def _add(places: _Places, array: NDArray[np.float32], times: int) -> None:
    """Add ``times · array``, exactly."""
    rest = array.astype(np.float64)
    largest = float(np.abs(rest).max(initial=0.0))
    # Also for zeros: an array without any place would have no shape.
    place = (int(np.frexp(largest)[1]) - 1) // _BITS
    while True:
        unit = 2.0 ** (_BITS * place)
        whole = np.trunc(rest / unit)
        counted = whole.astype(np.int64) * times
        places[place] = places[place] + counted if place in places else counted
        rest -= whole * unit
        if not rest.any():
            return
        place -= 1


def _total(places: _Places) -> NDArray[np.float64]:
    """The sum in doubles, rounded in one fixed order: from the lowest place on."""
    total = np.zeros((), np.float64)
    for place in sorted(places):
        total = total + places[place].astype(np.float64) * 2.0 ** (_BITS * place)
    return total
