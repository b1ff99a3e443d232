"""The discrete Gaussian: whole numbers, each as likely as its formula says, whatever the width.

Statistical tests use intervals that an honest sampler leaves less than once in a million runs.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from cloister_shared.privacy.discrete import MAX_DEVIATION, _ends, _settled, discrete_gaussian
from cloister_shared.privacy.noise import KeyedNoise, SystemNoise

COUNT = 100_000
RARE = 1e-6


@pytest.mark.parametrize("deviation", [0.3, 0.7, 1.0, 1.5, 4.0, 30.0])
def test_every_integer_is_as_likely_as_the_formula_says(deviation: float) -> None:
    drawn = discrete_gaussian(SystemNoise(), deviation, COUNT)
    reach = math.ceil(12 * deviation)
    integers = np.arange(-reach, reach + 1)
    masses = np.exp(-(integers**2) / (2 * deviation**2))
    expected = COUNT * masses / masses.sum()
    found = np.array([(drawn == one).sum() for one in integers])
    common = expected >= 10
    observed = np.append(found[common], COUNT - found[common].sum())
    hoped = np.append(expected[common], COUNT - expected[common].sum())
    if hoped[-1] < 10:
        assert observed[-1] < 60
        observed, hoped = observed[:-1], hoped[:-1] * observed[:-1].sum() / hoped[:-1].sum()
    assert stats.chisquare(observed, hoped).pvalue > RARE


@pytest.mark.parametrize("deviation", [1e3, 2.5e7, 1e12])
def test_a_wide_one_has_the_shape_and_scale_of_the_continuous(deviation: float) -> None:
    drawn = discrete_gaussian(SystemNoise(), deviation, 20_000) / deviation
    assert stats.kstest(drawn, "norm").pvalue > RARE
    low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], len(drawn))
    assert low < float(np.sum(drawn**2)) < high


def test_the_low_bits_of_a_wide_one_are_fair() -> None:
    drawn = discrete_gaussian(SystemNoise(), 2.5e7, COUNT)
    counts = np.bincount(np.mod(drawn, 64), minlength=64)
    assert stats.chisquare(counts).pvalue > RARE


@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_are_drawn_as_were_asked_for(count: int) -> None:
    assert discrete_gaussian(SystemNoise(), 3.0, count).shape == (count,)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.nan, math.inf, 2 * MAX_DEVIATION])
def test_a_deviation_that_cannot_be_drawn_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="deviation"):
        discrete_gaussian(SystemNoise(), deviation, 1)


def test_a_draw_too_near_to_a_limit_is_decided_in_more_digits() -> None:
    """-log(1/2): 52 digits leave it open on which side of its own value it lies."""
    half = 1 << 51
    logarithm = Fraction(math.log(2))
    sides = {
        _settled(KeyedNoise(key), half - side, lambda value: value > logarithm)
        for key in range(4)
        for side in (0, 1)
    }
    assert sides == {True, False}
    low, high = _ends(half, 52)
    assert low < logarithm < high
    assert high - low < Fraction(1, 2**50)


def test_the_smallest_uniform_has_no_largest_logarithm() -> None:
    assert _settled(KeyedNoise(1), 0, math.floor) >= 36
