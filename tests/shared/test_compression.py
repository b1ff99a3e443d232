"""A quarter of the bytes, and error feedback that pays what it owes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloister_shared.compression import (
    BLOCK,
    NORM_SLACK,
    NUMBERS,
    SCALES,
    Arrays,
    decode,
    encode,
    encode_owed,
)
from cloister_shared.errors import MessageError
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec

SPEC = DktSpec(skills=3, hidden=5)
SIZE = SPEC.dimension
BLOCKS = -(-SIZE // BLOCK)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
VECTORS = hnp.arrays(np.float32, SIZE, elements=FLOATS)
MODERATE = hnp.arrays(np.float32, SIZE, elements=st.floats(-10, 10, width=32))


def shaped(flat: np.ndarray) -> Weights:
    """A model's weights out of one row of numbers."""
    shapes = SPEC.shapes()
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def flattened(weights: Weights) -> np.ndarray:
    return np.concatenate([weights[name].ravel() for name in SPEC.shapes()]).astype(np.float64)


def norm(weights: Weights) -> float:
    return float(np.linalg.norm(flattened(weights)))


def half_steps(flat: np.ndarray) -> np.ndarray:
    """Half a scale, for each number, and what a scale itself is off by where floats are coarse."""
    padded = np.pad(np.abs(flat), (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    return np.repeat(padded.max(axis=1) / 254, BLOCK)[: len(flat)] * (1 + 1e-5) + 2e-43


@given(VECTORS)
def test_no_number_is_off_by_more_than_half_a_step(flat: np.ndarray) -> None:
    back = flattened(decode(encode(shaped(flat), SPEC, "int8"), SPEC, "int8"))
    assert (np.abs(back - flat) <= half_steps(flat)).all()


@given(VECTORS)
def test_the_same_weights_are_the_same_bytes_and_once_rounded_stay(flat: np.ndarray) -> None:
    arrays = encode(shaped(flat), SPEC, "int8")
    again = encode(shaped(flat.copy()), SPEC, "int8")
    assert all(arrays[name].tobytes() == again[name].tobytes() for name in (NUMBERS, SCALES))
    rounded = decode(arrays, SPEC, "int8")
    twice = flattened(decode(encode(rounded, SPEC, "int8"), SPEC, "int8"))
    np.testing.assert_allclose(twice, flattened(rounded), rtol=1e-5, atol=1e-40)


@given(VECTORS)
def test_messages_of_one_kind_have_one_length(flat: np.ndarray) -> None:
    arrays = encode(shaped(flat), SPEC, "int8")
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        NUMBERS: ((SIZE,), "int8"),
        SCALES: ((BLOCKS,), "float32"),
    }


def test_a_quarter_of_the_bytes() -> None:
    spec = DktSpec(skills=100, hidden=100)
    weights = {name: np.ones(shape, np.float32) for name, shape in spec.shapes().items()}
    sizes = [
        sum(array.nbytes for array in encode(weights, spec, compression).values())
        for compression in ("int8", "none")
    ]
    assert sizes[0] / sizes[1] < 0.26


@given(st.lists(MODERATE, min_size=1, max_size=8))
def test_what_error_feedback_owes_is_paid_next_round(updates: list[np.ndarray]) -> None:
    """All that was sent adds up to all that was meant, but for half a step of the last."""
    sent, owed = np.zeros(SIZE), None
    for update in updates:
        due = update if owed is None else update + flattened(owed).astype(np.float32)
        arrays, owed = encode_owed(shaped(update), owed, SPEC, "int8")
        sent += flattened(decode(arrays, SPEC, "int8"))
    meant = np.sum(updates, axis=0, dtype=np.float64)
    np.testing.assert_allclose(sent + flattened(owed), meant, atol=1e-4)
    assert (np.abs(flattened(owed)) <= half_steps(due) + 1e-5).all()


def test_without_feedback_what_is_too_small_would_never_arrive() -> None:
    """A weight that moves by a 300th of its neighbour is rounded to nothing each time."""
    update = np.zeros(SIZE, np.float32)
    update[0], update[1] = 3.0, 0.01
    forgetful = sum(
        flattened(decode(encode(shaped(update), SPEC, "int8"), SPEC, "int8"))[1] for _ in range(100)
    )
    assert forgetful == 0
    sent, owed = 0.0, None
    for _ in range(100):
        arrays, owed = encode_owed(shaped(update), owed, SPEC, "int8")
        sent += flattened(decode(arrays, SPEC, "int8"))[1]
    assert sent == pytest.approx(1.0, abs=0.012)


@given(st.lists(VECTORS, min_size=1, max_size=6))
def test_nothing_that_is_sent_is_longer_than_the_stated_slack(updates: list[np.ndarray]) -> None:
    bound = max(norm(shaped(update)) for update in updates)
    owed = None
    for update in updates:
        arrays, owed = encode_owed(shaped(update), owed, SPEC, "int8")
        assert norm(decode(arrays, SPEC, "int8")) <= NORM_SLACK * bound * (1 + 1e-5) + 1e-38


def test_the_slack_is_a_tenth() -> None:
    assert 1 < NORM_SLACK < 1.1


@given(VECTORS)
def test_without_compression_nothing_changes_and_nothing_is_owed(flat: np.ndarray) -> None:
    weights = shaped(flat)
    arrays, owed = encode_owed(weights, None, SPEC, "none")
    assert all(np.array_equal(arrays[name], weights[name]) for name in weights)
    assert not flattened(owed).any()
    assert decode(arrays, SPEC, "none").keys() == weights.keys()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused_elsewhere_and_owes_nothing(value: float) -> None:
    flat = np.ones(SIZE, np.float32)
    flat[3] = value
    arrays, owed = encode_owed(shaped(flat), None, SPEC, "int8")
    with pytest.raises(MessageError, match="scale"):
        decode(arrays, SPEC, "int8")
    assert np.isfinite(flattened(owed)).all()
    arrays, _ = encode_owed(shaped(np.ones(SIZE, np.float32)), owed, SPEC, "int8")
    decode(arrays, SPEC, "int8")


def honest() -> Arrays:
    return encode(shaped(np.linspace(-1, 1, SIZE, dtype=np.float32)), SPEC, "int8")


@pytest.mark.parametrize(
    "scale", [math.nan, math.inf, -1e-3, -math.inf, 1e38], ids=lambda scale: f"{scale}"
)
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    arrays = honest()
    arrays[SCALES][-1] = scale
    with pytest.raises(MessageError, match="scale"):
        decode(arrays, SPEC, "int8")


def test_the_largest_scale_that_is_allowed_stays_finite() -> None:
    arrays = honest()
    arrays[NUMBERS][:] = 127
    arrays[SCALES][:] = np.float32(2.6e36)
    assert np.isfinite(flattened(decode(arrays, SPEC, "int8"))).all()


@pytest.mark.parametrize(
    "change",
    [
        {NUMBERS: np.zeros(SIZE - 1, np.int8)},
        {NUMBERS: np.zeros(SIZE, np.uint8)},
        {NUMBERS: np.zeros(SIZE, np.float32)},
        {NUMBERS: np.zeros((1, SIZE), np.int8)},
        {NUMBERS: np.full(SIZE, -128, np.int8)},
        {SCALES: np.zeros(BLOCKS + 1, np.float32)},
        {SCALES: np.zeros(BLOCKS, np.float64)},
        {"more": np.zeros(1, np.float32)},
    ],
    ids=["short", "unsigned", "floats", "two axes", "below", "long", "doubles", "another"],
)
def test_arrays_of_another_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode({**honest(), **change}, SPEC, "int8")


def test_weights_as_they_are_do_not_pass_for_compressed_ones_nor_the_other_way_round() -> None:
    weights = shaped(np.ones(SIZE, np.float32))
    with pytest.raises(MessageError):
        decode(weights, SPEC, "int8")
    with pytest.raises(MessageError):
        decode(honest(), SPEC, "none")
