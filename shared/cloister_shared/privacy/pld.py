"""ε of many sampled Gaussian steps from the distribution of their privacy loss.

A step's loss is put on a grid by connecting the dots (Doroshenko et al., "Connect the Dots: Tighter
Discrete Approximations of Privacy Loss Distributions", 2022, algorithm 1), which never understates
δ, however wide the grid. The steps' losses add up: all are convolved at once in one Fourier
transform (Koskela, Jälkö, Honkela, "Computing Tight Differential Privacy Guarantees Using FFT",
2020). A learner may be missing on either side, so the larger of two ε counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import log_ndtr, ndtr, ndtri

from cloister_shared.privacy.orders import ORDERS
from cloister_shared.privacy.renyi import Floats, sampled_gaussian_rdp

FINEST_INTERVAL = 1e-4
INTERVALS_PER_DEVIATION = 40
TAIL_SHARE = 1e-6
"""What is cut off distributions and counted as an infinite loss, as a share of δ."""
_LARGEST_EXPONENT = 500.0
"""Its exponential is still a double."""

Complexes = NDArray[np.complex128]
Steps = Mapping[tuple[float, float], int]
"""Numbers of steps by (noise multiplier, sampling rate)."""


def pld_epsilon(steps: Steps, delta: float) -> float:
    """An upper bound of ε at ``delta`` of all ``steps`` together, in any order."""
    return max(one.epsilon(delta) for one in _totals(steps, TAIL_SHARE * delta))


def privacy_profile(steps: Steps, tail: float) -> tuple[Floats, Floats]:
    """Rising ε (n,), and upper bounds (n,) of δ there, of all ``steps`` together.

    For a learner removed or added, whichever δ is larger. So rare losses as are cut off, of
    probability ``tail``, count as infinite.
    """
    both = _totals(steps, tail)
    first = max(one.lowest for one in both)
    last = min(one.lowest + len(one.masses) for one in both)
    removed, added = (one.deltas()[first - one.lowest : last - one.lowest] for one in both)
    epsilons = np.arange(first, last, dtype=np.float64) * both[0].interval
    return epsilons, np.asarray(np.maximum(removed, added))


def _totals(steps: Steps, tail: float) -> tuple["_Losses", "_Losses"]:
    """The loss of all ``steps`` together, for a learner removed and for one added."""
    interval = loss_interval(steps)
    both = [_both_losses(*key, interval, tail / sum(steps.values())) for key in steps]
    tilts = _tilts(steps, tail)
    removed, added = (
        _composed(list(zip(losses, steps.values(), strict=True)), tilts, tail)
        for losses in zip(*both, strict=True)
    )
    return removed, added


def loss_interval(steps: Steps) -> float:
    """Width of the grid: a 40th of a step's root mean square loss.

    Splitting a loss between its two neighbours on the grid adds at most 1/4 of a squared interval
    to its variance, less than 2e-4 of what is there. RDP at order 2 is about the mean square.
    """
    squares = sum(count * sampled_gaussian_rdp(*key, (2,))[0] for key, count in steps.items())
    deviation = math.sqrt(squares / sum(steps.values()))
    return max(FINEST_INTERVAL, deviation / INTERVALS_PER_DEVIATION)


@dataclass(frozen=True)
class _Losses:
    """``masses`` (n,) of the losses (``lowest`` + i) · ``interval``, and the mass at infinity."""

    interval: float
    lowest: int
    masses: Floats
    infinite: float

    @classmethod
    def complete(cls, interval: float, lowest: int, masses: Floats, infinite: float) -> "_Losses":
        """Masses scaled to what is not infinite: many steps would add up what rounding lost."""
        positive = np.maximum(masses, 0)
        return cls(interval, lowest, positive * ((1 - infinite) / positive.sum()), infinite)

    @property
    def values(self) -> Floats:
        return (self.lowest + np.arange(len(self.masses), dtype=np.float64)) * self.interval

    def log_moment(self, tilt: float) -> float:
        """log Σ mass · exp(tilt · loss) over the finite losses."""
        exponents = np.where(self.masses > 0, tilt * self.values, -np.inf)
        largest = exponents.max()
        return float(largest + np.log(self.masses @ np.exp(exponents - largest)))

    def deltas(self) -> Floats:
        """(n,) δ(ε) = Σ mass · (1 - exp(ε - loss)) over losses above ε, at each of ``values``."""
        above, discounted = self._tails()
        return np.maximum(0.0, above - discounted)

    def epsilon(self, delta: float) -> float:
        """The least ε ≥ 0 with δ(ε) ≤ ``delta``.

        With the tails S and U at the grid's point i it is S - exp(ε - loss_i) · U between i - 1
        and i.
        """
        if self.infinite >= delta:
            return math.inf
        above, discounted = self._tails()
        first = int(np.argmax(above - discounted <= delta))
        excess = above[first] - delta
        if excess <= 0:
            return 0.0
        return max(0.0, float(self.values[first] + math.log(excess / discounted[first])))

    def _tails(self) -> tuple[Floats, Floats]:
        """Σ_{j ≥ i} mass_j, and Σ_{j ≥ i} mass_j exp((i - j) · interval), at each i; both (n,)."""
        from_top = self.masses[::-1]
        above = np.cumsum(from_top)[::-1] + self.infinite
        return above, _discounted(from_top, self.interval)[::-1]


def _both_losses(
    noise: float, rate: float, interval: float, tail: float
) -> tuple[_Losses, _Losses]:
    """One step's loss for a learner removed, and for one added.

    For P = (1 - q) N(0, σ²) + q N(1, σ²) and Q = N(0, σ²) they are log(P/Q) under P and log(Q/P)
    under Q. Outputs beyond ±z, of probability ``tail`` each, are beyond the grid.
    """
    reach = -float(ndtri(tail / 2)) * noise
    lowest = math.floor(_loss(-reach, noise, rate) / interval)
    highest = math.ceil(_loss(1 + reach, noise, rate) / interval)
    grid: Floats = np.arange(lowest, highest + 1, dtype=np.float64) * interval
    removed = _removed(grid, noise, rate)
    # δ of (P, Q) at ε is 1 - e^ε + e^ε δ of (Q, P) at -ε. Dots connect 1 - e^ε without any mass, so
    # that the last term, which is small for ε < 0, can stand for the whole without cancellation.
    added: Floats = np.exp(np.minimum(grid, 0)) * _added(-grid, noise, rate)
    masses = np.where(grid < 0, _connected(added, interval), _connected(removed, interval))
    forward = _Losses.complete(interval, lowest, masses, float(removed[-1]))
    if rate == 1:
        return forward, forward
    backward = (masses * np.exp(-grid))[::-1]
    missing = float(added[0] / math.exp(grid[0]))
    return forward, _Losses.complete(interval, -highest, backward, missing)


def _connected(deltas: Floats, interval: float) -> Floats:
    """(n,) masses at the grid's points with these δ; at the ends what reaches no further."""
    rises, growth = np.diff(deltas), math.expm1(interval)
    masses = np.empty(len(deltas))
    masses[0] = rises[0] / growth - deltas[0]
    masses[1:-1] = (rises[1:] - rises[:-1] * math.exp(interval)) / growth
    masses[-1] = rises[-1] / math.expm1(-interval)
    return masses


def _removed(epsilons: Floats, noise: float, rate: float) -> Floats:
    """δ of (P, Q) at each ε: P(S) - e^ε Q(S) for the outputs S whose loss is at least ε."""
    cutoff = 0.5 + noise**2 * _unsampled(epsilons, rate)
    above = (1 - rate) * ndtr(-cutoff / noise) + rate * ndtr((1 - cutoff) / noise)
    return np.asarray(np.maximum(0, above - np.exp(epsilons + log_ndtr(-cutoff / noise))))


def _added(epsilons: Floats, noise: float, rate: float) -> Floats:
    """δ of (Q, P) at each ε."""
    cutoff = 0.5 + noise**2 * _unsampled(-epsilons, rate)
    with np.errstate(divide="ignore"):
        log_kept = np.log1p(-rate)
    log_above = np.logaddexp(
        log_kept + log_ndtr(cutoff / noise), math.log(rate) + log_ndtr((cutoff - 1) / noise)
    )
    return np.asarray(np.maximum(0, ndtr(cutoff / noise) - np.exp(epsilons + log_above)))


def _unsampled(epsilons: Floats, rate: float) -> Floats:
    """log(1 + (e^ε - 1) / q): the loss without sampling where it is ε with it; -∞ if none is."""
    if rate == 1:
        return epsilons
    with np.errstate(over="ignore", divide="ignore"):
        amplified = np.maximum(0, rate - (1 - rate) * np.expm1(-epsilons))
        return np.asarray(epsilons + np.log(amplified) - math.log(rate))


def _loss(output: float, noise: float, rate: float) -> float:
    """log(P/Q) at an ``output`` of the step."""
    unsampled = (output - 0.5) / noise**2
    if rate == 1:
        return unsampled
    return float(np.logaddexp(math.log1p(-rate), math.log(rate) + unsampled))


def _discounted(masses: Floats, interval: float) -> Floats:
    """(n,) Σ_{j ≤ i} mass_j exp((j - i) · interval), in stretches that do not overflow."""
    stretch = 1 + int(_LARGEST_EXPONENT / interval)
    sums = np.empty(len(masses))
    carried = 0.0
    for first in range(0, len(masses), stretch):
        part = masses[first : first + stretch]
        discounts = np.exp(-interval * np.arange(len(part)))
        sums[first : first + stretch] = discounts * (carried + np.cumsum(part / discounts))
        carried = sums[first + len(part) - 1] * math.exp(-interval)
    return sums


def _tilts(steps: Steps, tail: float) -> tuple[float, float]:
    """Exponents for which Markov's inequality bounds the total from below and above tightly.

    Any would be sound. These are best for moments that RDP knows in advance: E exp((α - 1) loss)
    and E exp(-α loss) are at most exp((α - 1) RDP(α)).
    """
    orders = np.array(ORDERS, dtype=np.float64)
    rdp = sum(count * sampled_gaussian_rdp(*key, ORDERS) for key, count in steps.items())
    exponents = (orders - 1) * rdp - math.log(tail)
    below, above = np.argmin(exponents / orders), np.argmin(exponents / (orders - 1))
    return -float(orders[below]), float(orders[above] - 1)


def _composed(parts: list[tuple[_Losses, int]], tilts: tuple[float, float], tail: float) -> _Losses:
    """The sum of so many independent losses each.

    The transform is circular: what lies outside of its bounds comes back inside. From below it
    only rises; from above it is at most ``tail``, which is counted as infinite once more.
    """
    interval = parts[0][0].interval
    lowest, highest = (
        round(_bound(parts, tilt, tail) / interval) + math.copysign(1, tilt) for tilt in tilts
    )
    length = next_fast_len(max(int(highest - lowest), *(len(one.masses) for one, _ in parts)), True)
    spectrum = np.ones(length // 2 + 1, dtype=np.complex128)
    for one, count in parts:
        spectrum *= _power(rfft(one.masses, length), count)
    masses = irfft(spectrum, length)
    start = sum(count * one.lowest for one, count in parts)
    log_finite = sum(count * math.log1p(-one.infinite) for one, count in parts)
    rolled = np.roll(masses, start - int(lowest))
    return _Losses(interval, int(lowest), np.maximum(rolled, 0), tail - math.expm1(log_finite))


def _power(base: Complexes, count: int) -> Complexes:
    """``base`` to the power ``count`` ≥ 1, by squaring."""
    half = _power(base, count // 2) if count > 1 else np.ones_like(base)
    return half * half * base if count % 2 else half * half


def _bound(parts: list[tuple[_Losses, int]], tilt: float, tail: float) -> float:
    """Where the sum lies beyond with probability ``tail`` at most; below for a negative tilt."""
    return (sum(n * one.log_moment(tilt) for one, n in parts) - math.log(tail)) / tilt
