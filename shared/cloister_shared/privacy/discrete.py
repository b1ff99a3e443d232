"""Gaussians on the integers, drawn exactly: no bit of a draw owes anything to rounded arithmetic.

Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", 2020, algorithm 3. The
logarithms that it compares are computed in doubles; the few draws that lie so near to a limit that
rounding could have decided them are decided again in as many digits as they need.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cloister_shared.privacy.noise import NoiseSource

MAX_DEVIATION = 2.0**46
"""In steps of the grid: forty times as much is still a whole number in a double."""

_BITS = 52
_ROUNDING = 1e-14
"""More than the relative error of a handful of operations in doubles."""

Answer = TypeVar("Answer")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def discrete_gaussian(source: NoiseSource, deviation: float, count: int) -> Ints:
    """``count`` independent integers x, each with probability ∝ exp(-x² / (2 · ``deviation``²)).

    Raises ``ValueError`` unless 0 < ``deviation`` ≤ 2^46.
    """
    if not 0 < deviation <= MAX_DEVIATION:
        raise ValueError(f"a discrete Gaussian's deviation must be in (0, 2^46], not {deviation:g}")
    drawn = np.zeros(0, dtype=np.int64)
    while len(drawn) < count:
        # About three of four candidates are kept where the deviation is large, half where small.
        candidates = _candidates(source, deviation, 3 * (count - len(drawn)) // 2 + 8)
        drawn = np.concatenate([drawn, candidates])
    return drawn[:count]


def _candidates(source: NoiseSource, deviation: float, count: int) -> Ints:
    """Those of ``count`` draws from a discrete Laplace of scale t that are accepted."""
    scale = math.floor(deviation) + 1
    sizes = _scaled_exponentials(source, scale, count)
    negative = np.frombuffer(source.random_bytes(count), dtype=np.uint8) >= 128
    kept = _accepted(source, sizes, deviation, scale) & ~(negative & (sizes == 0))
    signed: Ints = np.where(negative, -sizes, sizes)[kept]
    return signed


def _scaled_exponentials(source: NoiseSource, scale: int, count: int) -> Ints:
    """⌊``scale`` · E⌋ for standard exponential E: x with probability ∝ exp(-x / ``scale``)."""
    bits = _bits(source, count)
    logs, errors = _minus_log(bits)
    slack = scale * errors + _ROUNDING * scale * logs
    low, high = (np.floor(scale * logs + side) for side in (-slack, slack))
    sizes = low.astype(np.int64)
    for place in np.flatnonzero(low != high):
        sizes[place] = _settled(source, int(bits[place]), lambda value: math.floor(scale * value))
    return sizes


def _accepted(source: NoiseSource, sizes: Ints, deviation: float, scale: int) -> NDArray[np.bool_]:
    """(n,) coins that fall with probability exp(-(size - σ²/t)² / (2σ²))."""
    bits = _bits(source, len(sizes))
    logs, errors = _minus_log(bits)
    limits = 0.5 * np.square((sizes - deviation / scale * deviation) / deviation)
    accepted: NDArray[np.bool_] = logs > limits
    near = np.abs(logs - limits) <= errors + _ROUNDING * (1 + logs + 40 * limits)
    variance = Fraction(deviation) ** 2
    for place in np.flatnonzero(near):
        limit = (int(sizes[place]) - variance / scale) ** 2 / (2 * variance)
        accepted[place] = _settled(source, int(bits[place]), limit.__lt__)
    return accepted


def _bits(source: NoiseSource, count: int) -> Ints:
    """The first 52 binary digits of ``count`` uniform numbers in [0, 1)."""
    words = np.frombuffer(source.random_bytes(8 * count), dtype="<u8")
    return (words >> (64 - _BITS)).astype(np.int64)


def _minus_log(bits: Ints) -> tuple[Floats, Floats]:
    """-log u for u = (bits + ½) / 2^52, and how far it may be from that of any u in the cell."""
    middles = (bits + 0.5) / 2.0**_BITS
    logs = -np.log(middles)
    # |log u' - log u| ≤ |u' - u| / min(u, u'), and the cell at 0 reaches to infinity.
    errors = np.where(bits == 0, np.inf, 2.0**-_BITS / middles + _ROUNDING * (1 + logs))
    return logs, np.asarray(errors)


def _settled(source: NoiseSource, bits: int, answer: Callable[[Fraction], Answer]) -> Answer:
    """``answer`` to -log u, of which u's first 52 digits are ``bits``, drawing more as needed.

    ``answer`` must be monotone, so that it is settled where it is the same at both ends of a cell.
    """
    length = _BITS
    while True:
        bits = bits << 64 | int.from_bytes(source.random_bytes(8), "little")
        length += 64
        if bits:
            low, high = _ends(bits, length)
            if answer(low) == answer(high):
                return answer(low)


def _ends(bits: int, length: int) -> tuple[Fraction, Fraction]:
    """Bounds of -log u for u between ``bits`` and ``bits`` + 1 in units of 2^-``length``."""
    context = Context(prec=length // 3 + 20)
    slack = Fraction(1, 10 ** (length // 3 + 10))
    unit = context.multiply(Decimal(length), context.ln(Decimal(2)))
    high, low = (
        Fraction(context.subtract(unit, context.ln(Decimal(one)))) for one in (bits, bits + 1)
    )
    return low - slack, high + slack
