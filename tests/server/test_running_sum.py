"""The sum is exact: at any scale, in any order, with float32 as it comes."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloister_server.running_sum import RunningSum
from cloister_shared.errors import MessageError
from cloister_shared.plan import MAX_LEARNERS

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
"""All of them: denormal, zero, and up to 3.4e38."""
SHAPE = (2, 3)
PARTS = st.lists(
    st.tuples(hnp.arrays(np.float32, SHAPE, elements=FLOATS), st.integers(1, 2**20)),
    min_size=1,
    max_size=6,
)
Parts = list[tuple[np.ndarray, int]]


def mean_of(parts: Parts) -> np.ndarray:
    running = RunningSum()
    for array, size in parts:
        running.add({"w": array}, size)
    return running.mean()["w"]


@given(PARTS, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_bits(parts: Parts, chance: st.DataObject) -> None:
    shuffled = list(parts)
    chance.shuffle(shuffled)
    assert mean_of(shuffled).tobytes() == mean_of(parts).tobytes()


@given(PARTS)
def test_the_mean_is_weighted_by_declared_sizes(parts: Parts) -> None:
    """As a loop in doubles has it: what this coordinator did before sums were exact."""
    total = sum(size for _, size in parts)
    terms = [array.astype(np.float64) * size for array, size in parts]
    # Where terms cancel, the loop is the one that is wrong: by its own rounding.
    slack = 1e-15 * sum(np.abs(term) for term in terms) / total
    with np.errstate(over="ignore"):
        difference = np.abs(mean_of(parts).astype(np.float64) - sum(terms) / total)
    assert (difference <= 1e-7 * np.abs(mean_of(parts)) + slack + 1e-45).all()


def test_scales_that_a_hostile_node_might_choose_drown_nobody() -> None:
    """What two nodes add and take away again is gone without a trace."""
    values = (3e38, 1.0, -3e38, 1e-40, 2e4, 1e-45)
    parts = [(np.full(SHAPE, value, np.float32), 1 << 20) for value in values]
    means = {mean_of(list(order)).tobytes() for order in permutations(parts)}
    assert len(means) == 1
    rest = [part for part in parts if abs(part[0][0, 0]) < 1e38]
    assert mean_of(parts)[0, 0] == np.float32(mean_of(rest)[0, 0] * len(rest) / len(parts))


@given(PARTS)
def test_the_mean_is_the_true_one_but_for_the_last_rounding(parts: Parts) -> None:
    mean = mean_of(parts)
    total = sum(size for _, size in parts)
    for place in np.ndindex(SHAPE):
        exact = sum(Fraction(float(array[place])) * size for array, size in parts) / total
        found, true = mean[place], np.float32(float(exact))
        # Places are rounded to doubles one by one: they may differ by the last bit of a float32.
        assert found in (true, np.nextafter(true, np.inf), np.nextafter(true, -np.inf))


def test_what_is_kept_does_not_grow_with_the_number_of_nodes() -> None:
    running = RunningSum()
    noise = np.random.default_rng(1)
    kept = set()
    for _ in range(50):
        running.add({"w": noise.normal(0, 0.01, 4000).astype(np.float32)}, 100)
        kept.add(sum(array.nbytes for array in running._sums["w"].values()))
    assert max(kept) <= 3 * 8 * 4000


def test_as_many_learners_as_a_plan_allows_do_not_overflow() -> None:
    largest = np.finfo(np.float32).max
    for sign in (1, -1):
        parts = [(np.full(SHAPE, sign * largest, np.float32), MAX_LEARNERS // 2)] * 2
        assert (mean_of(parts) == sign * largest).all()
    running = RunningSum()
    running.add({"w": np.ones(1, np.float32)}, MAX_LEARNERS)
    with pytest.raises(OverflowError):
        running.add({"w": np.ones(1, np.float32)}, 1)
    assert running.mean()["w"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(value: float) -> None:
    running = RunningSum()
    running.add({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}, 3)
    with pytest.raises(MessageError):
        running.add({"a": np.ones(2, np.float32), "b": np.array([0, value], np.float32)}, 1)
    assert (running.mean()["a"] == 1).all()
    assert (running.mean()["b"] == 1).all()


def test_nothing_but_zeros_keeps_its_shape() -> None:
    assert mean_of([(np.zeros(SHAPE, np.float32), 5)]).tolist() == np.zeros(SHAPE).tolist()
