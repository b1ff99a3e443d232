"""Rényi divergence of the sampled Gaussian, and what it converts to.

At a whole order α the divergence of one step is log(A) / (α - 1) with the binomial sum
A = Σ_k C(α, k) (1 - q)^(α - k) q^k exp(k(k - 1) / 2σ²): Mironov, Talwar, Zhang, "Rényi Differential
Privacy of the Sampled Gaussian Mechanism", 2019, section 3.3. The binomial terms alone add up to 1,
so A - 1 is the same sum over expm1, which has no negative term: nothing cancels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sampled_gaussian_rdp(
    noise_multiplier: float, sampling_rate: float, orders: tuple[int, ...]
) -> Floats:
    """(orders,) RDP of one step at each of the whole ``orders``, which are at least 2."""
    order = np.array(orders, dtype=np.float64)
    if sampling_rate == 1:
        return order / (2 * noise_multiplier**2)
    terms = _terms(orders)
    log_kept, log_odds = math.log1p(-sampling_rate), math.log(sampling_rate)
    k = np.arange(2.0, order.max() + 1)
    exponent = k * (k - 1) / (2 * noise_multiplier**2)
    by_k = k * (log_odds - log_kept) + exponent + np.log(-np.expm1(-exponent))
    log_excess = order * log_kept + terms.log_sums(by_k)
    return np.asarray(np.logaddexp(0, log_excess) / (order - 1))


def conversion(order: Floats, delta: float) -> Floats:
    """What is added to the RDP at each ``order`` to get an ε at ``delta``.

    Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", 2020, prop. 12.
    """
    return np.asarray(
        np.log1p(-1 / order) - (math.log(delta) + np.log(order)) / (order - 1), dtype=np.float64
    )


@dataclass(frozen=True)
class _Terms:
    """The terms k = 2 … α of every order's sum, one order after the other.

    ``place`` (terms,) is k - 2, ``log_binomials`` (terms,) log C(α, k), ``starts`` (orders,) where
    each order begins, ``lengths`` (orders,) how many terms it has.
    """

    place: NDArray[np.int64]
    log_binomials: Floats
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def log_sums(self, by_k: Floats) -> Floats:
        """(orders,) log Σ_k C(α, k) exp(by_k[k - 2])."""
        logs = self.log_binomials + by_k[self.place]
        largest = np.maximum.reduceat(logs, self.starts)
        scaled = np.exp(logs - np.repeat(largest, self.lengths))
        return np.asarray(largest + np.log(np.add.reduceat(scaled, self.starts)))


@lru_cache(maxsize=64)
def _terms(orders: tuple[int, ...]) -> _Terms:
    log_factorial = np.array([math.lgamma(n + 1) for n in range(max(orders) + 1)])
    lengths = np.array(orders) - 1
    starts = np.cumsum(lengths) - lengths
    place = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    order = np.repeat(orders, lengths)
    k = place + 2
    log_binomials = log_factorial[order] - log_factorial[k] - log_factorial[order - k]
    return _Terms(place, log_binomials, starts, lengths)
