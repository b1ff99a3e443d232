"""Noise meets data in one place, on a grid that data have no say in."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from cloister_shared.privacy.noise import KeyedNoise, SystemNoise
from cloister_shared.privacy.release import NoiseKind, grid_step, noised

KINDS: tuple[NoiseKind, ...] = ("gaussian", "discrete_gaussian")
RARE = 1e-6
FLOATS = st.floats(-1e3, 1e3)


@pytest.mark.parametrize("kind", KINDS)
@given(total=arrays(np.float64, 5, elements=FLOATS), sensitivity=st.floats(1e-6, 1e6))
@settings(max_examples=50)
def test_a_release_lies_on_the_grid_whoever_is_in_the_sum(
    kind: NoiseKind, total: np.ndarray, sensitivity: float
) -> None:
    step = grid_step(sensitivity, 5)
    assert math.frexp(step)[0] == 0.5
    release = noised(total, sensitivity, 1.0, kind, KeyedNoise(1)) / step
    assert (release == np.rint(release)).all()


@given(
    total=arrays(np.float64, 7, elements=FLOATS),
    direction=arrays(np.float64, 7, elements=st.floats(-1, 1)),
    sensitivity=st.floats(1e-3, 1e3),
)
def test_rounding_moves_neighbours_apart_by_no_more_than_the_noise_covers(
    total: np.ndarray, direction: np.ndarray, sensitivity: float
) -> None:
    length = max(1.0, float(np.linalg.norm(direction)))
    neighbour = total + direction * (sensitivity / length)
    step = grid_step(sensitivity, 7)
    apart = step * float(np.linalg.norm(np.rint(total / step) - np.rint(neighbour / step)))
    assert apart <= (1 + 1e-9) * (sensitivity + step * math.sqrt(7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise_multiplier", [0.5, 3.0])
def test_the_noise_has_the_scale_that_is_charged(kind: NoiseKind, noise_multiplier: float) -> None:
    """At least: the grid's own step is covered as well."""
    count = 100_000
    drawn = noised(np.zeros(count), 0.2, noise_multiplier, kind, SystemNoise())
    standard = drawn / (noise_multiplier * 0.2)
    low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], count)
    assert low < float(np.sum(standard**2)) / (1 + 2.0**-15) < high
    assert stats.kstest(standard, "norm").pvalue > RARE


def test_without_a_grid_the_low_bits_of_a_sum_would_tell_it() -> None:
    """What the grid is against: noise in doubles on top of 1/3 has other low bits than on top of 0.

    Of noise alone many values are multiples of 2^-55, of a sum with a large number none are.
    """
    drawn = np.abs(np.random.default_rng(1).standard_normal(1000)) * 2.0**-6
    bare, shifted = drawn * 2.0**55 % 1, (drawn + 1 / 3) * 2.0**55 % 1
    assert (bare != 0).any()
    assert (shifted == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_low_bits_of_a_release_tell_nothing(kind: NoiseKind) -> None:
    step, count = grid_step(1.0, 50_000), 50_000
    for value in (0.0, 1 / 3):
        release = noised(np.full(count, value), 1.0, 1.0, kind, SystemNoise())
        low = np.bincount(np.mod(release / step, 16).astype(int), minlength=16)
        assert stats.chisquare(low).pvalue > RARE


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_keeps_its_value_under_the_noise(kind: NoiseKind) -> None:
    total = np.linspace(-5, 5, 20_000)
    rest = noised(total, 1.0, 0.5, kind, SystemNoise()) - total
    assert stats.kstest(rest / 0.5, "norm").pvalue > RARE


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_is_the_same_for_the_same_bits(kind: NoiseKind) -> None:
    first, second = (noised(np.ones(9), 1.0, 1.0, kind, KeyedNoise(4)) for _ in range(2))
    assert first.tolist() == second.tolist()
