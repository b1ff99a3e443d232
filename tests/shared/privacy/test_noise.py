"""The one source of randomness: right in distribution, fresh in every call, seeded by nobody.

Statistical tests use intervals that honest noise leaves less than once in a million runs.
"""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cloister_shared.privacy.noise import (
    KeyedNoise,
    NoiseSource,
    SystemNoise,
    bernoulli,
    choice,
    gaussian,
    uniform,
)

COUNT = 200_000
RARE = 1e-6


@pytest.fixture(params=["system", "keyed"])
def source(request: pytest.FixtureRequest) -> NoiseSource:
    return SystemNoise() if request.param == "system" else KeyedNoise(7, "test")


class Constant:
    """A source of one repeated byte: the extremes that chance would not show."""

    has_guarantee = False

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def random_bytes(self, count: int) -> bytes:
        return bytes([self.byte]) * count


def test_gaussians_have_the_scale_that_accounting_assumes(source: NoiseSource) -> None:
    """To half a percent."""
    count = 2_000_000
    low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], count)
    assert low < float(np.sum(gaussian(source, count) ** 2)) < high
    assert 0.995**2 < low / count < high / count < 1.005**2


def test_gaussians_are_normal(source: NoiseSource) -> None:
    assert stats.kstest(gaussian(source, COUNT), "norm").pvalue > RARE


def test_the_halves_of_a_draw_are_independent(source: NoiseSource) -> None:
    """Box-Muller's cosine and sine share radius and angle."""
    drawn = gaussian(source, COUNT)
    first, second = drawn[: COUNT // 2], drawn[COUNT // 2 :]
    assert stats.pearsonr(first, second).pvalue > RARE
    assert stats.pearsonr(first**2, second**2).pvalue > RARE


def test_calls_are_independent(source: NoiseSource) -> None:
    first, second = gaussian(source, COUNT), gaussian(source, COUNT)
    assert not np.isin(first, second).any()
    assert stats.pearsonr(first, second).pvalue > RARE


def test_an_odd_or_empty_count_is_served(source: NoiseSource) -> None:
    assert [len(gaussian(source, count)) for count in (0, 1, 3)] == [0, 1, 3]
    assert [len(uniform(source, count)) for count in (0, 1)] == [0, 1]


def test_uniform_draws_are_uniform(source: NoiseSource) -> None:
    assert stats.kstest(uniform(source, COUNT), "uniform").pvalue > RARE


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_the_extremes_stay_inside_the_open_interval(byte: int) -> None:
    drawn = uniform(Constant(byte), 4)
    assert ((drawn > 0) & (drawn < 1)).all()
    assert np.isfinite(gaussian(Constant(byte), 4)).all()
    assert bernoulli(Constant(byte), 1.0, 4).all()
    assert choice(Constant(byte), 10, 4).max() <= 9


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.9])
def test_coins_fall_at_the_rate(source: NoiseSource, rate: float) -> None:
    heads = int(bernoulli(source, rate, COUNT).sum())
    assert stats.binomtest(heads, COUNT, rate).pvalue > RARE


def test_a_certain_coin_always_falls_and_an_impossible_one_never(source: NoiseSource) -> None:
    assert bernoulli(source, 1.0, 1000).all()
    assert not bernoulli(source, 0.0, 1000).any()


def test_choices_are_in_range_and_equally_likely(source: NoiseSource) -> None:
    drawn = choice(source, 7, COUNT)
    assert set(drawn.tolist()) == set(range(7))
    assert stats.chisquare(np.bincount(drawn)).pvalue > RARE
    assert set(choice(source, 1, 100).tolist()) == {0}


def test_seeding_torch_and_numpy_changes_nothing() -> None:
    torch = pytest.importorskip("torch")
    draws, keyed = [], []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)
        draws.append(gaussian(SystemNoise(), 8).tolist())
        keyed.append(gaussian(KeyedNoise(3), 8).tolist())
        np.random.random(5)
    assert draws[0] != draws[1]
    assert keyed[0] == keyed[1]


FORK = """
import os
from cloister_shared.privacy.noise import SystemNoise
source = SystemNoise()
source.random_bytes(8)
child = os.fork()
os.write(1, source.random_bytes(16).hex().encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_process_never_draws_the_same_noise() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=60
    )
    drawn = result.stdout.split()
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]


def test_a_copied_system_source_never_repeats_itself() -> None:
    source = SystemNoise()
    assert len({bytes(source.random_bytes(16)) for _ in range(100)}) == 100


def test_only_the_systems_noise_has_a_guarantee() -> None:
    assert SystemNoise().has_guarantee
    assert not KeyedNoise(1).has_guarantee


LABELS = st.lists(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8), max_size=4
)


@given(key=st.integers(), labels=LABELS)
def test_keyed_noise_is_reproducible(key: int, labels: list[str]) -> None:
    assert KeyedNoise(key, *labels).random_bytes(32) == KeyedNoise(key, *labels).random_bytes(32)


@given(labels=LABELS, others=LABELS, key=st.integers(0, 3), other_key=st.integers(0, 3))
def test_another_key_or_other_labels_give_other_noise(
    labels: list[str], others: list[str], key: int, other_key: int
) -> None:
    if (key, labels) != (other_key, others):
        first, second = KeyedNoise(key, *labels), KeyedNoise(other_key, *others)
        assert first.random_bytes(32) != second.random_bytes(32)


@given(st.lists(st.integers(0, 40), max_size=6))
def test_a_keyed_stream_is_the_same_however_it_is_read(sizes: list[int]) -> None:
    whole, parts = KeyedNoise(5, "x"), KeyedNoise(5, "x")
    assert whole.random_bytes(sum(sizes)) == b"".join(map(parts.random_bytes, sizes))
