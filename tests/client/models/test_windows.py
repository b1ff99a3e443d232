"""Windows cover a history once, or are a fair draw of it; padding changes nothing."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.models.windows import Windows, all_of, window_count, windows_of
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import KeyedNoise, SystemNoise

lengths = st.lists(st.integers(0, 60), max_size=6).map(lambda sizes: np.array(sizes, dtype=int))


def covered(windows: Windows) -> list[int]:
    """Positions, in the concatenation, of all that is in a window."""
    return [
        at
        for start, length in zip(windows.starts, windows.lengths, strict=True)
        for at in range(start, start + length)
    ]


@given(lengths=lengths, window=st.integers(2, 20))
def test_windows_cover_every_answer_once(lengths, window):
    local = LocalTraining(window=window)
    windows = windows_of(lengths, local, KeyedNoise(1))
    assert sorted(covered(windows)) == list(range(lengths.sum()))
    assert len(windows.starts) == sum(window_count(length, local) for length in lengths)


@given(lengths=lengths, window=st.integers(2, 20))
def test_a_window_holds_answers_of_its_learner_only_and_the_longest_is_first(lengths, window):
    windows = windows_of(lengths, LocalTraining(window=window), KeyedNoise(1))
    whose = np.repeat(np.arange(len(lengths)), lengths)
    assert [list(set(whose[start : start + length])) for start, length in spans(windows)] == [
        [learner] for learner in windows.learners
    ]
    assert (np.diff(windows.lengths) <= 0).all()


def spans(windows: Windows) -> list[tuple[int, int]]:
    return list(zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True))


@given(lengths=lengths, most=st.integers(1, 6), key=st.integers(0, 50))
def test_drawn_windows_are_some_of_them_each_once(lengths, most, key):
    local = LocalTraining(window=5, max_windows=most)
    windows = windows_of(lengths, local, KeyedNoise(key))
    everything = windows_of(lengths, LocalTraining(window=5), KeyedNoise(key))
    assert len(set(spans(windows))) == len(windows.starts)
    assert set(spans(windows)) <= set(spans(everything))
    drawn = np.bincount(windows.learners, minlength=len(lengths)).tolist()
    assert drawn == [window_count(length, local) for length in lengths]
    assert drawn == [min(most, -(-length // 5)) for length in lengths]


def test_each_window_is_drawn_as_often_as_any_other():
    local, noise = LocalTraining(window=2, max_windows=1), SystemNoise()
    drawn = windows_of(np.full(2000, 8), local, noise)
    counts = np.bincount(drawn.starts % 8 // 2, minlength=4)
    # 500 expected, standard deviation 19.4; six of them.
    assert (abs(counts - 500) < 116).all()


@given(lengths=lengths, most=st.integers(1, 3))
def test_weights_share_one_between_the_answers_in_a_learners_windows(lengths, most):
    local = LocalTraining(window=5, max_windows=most)
    windows = windows_of(lengths, local, KeyedNoise(1))
    sums = np.bincount(windows.learners, windows.weights * windows.lengths, minlength=len(lengths))
    np.testing.assert_allclose(sums, lengths > 0)


@given(lengths=lengths, most=st.integers(1, 3))
def test_with_a_public_divisor_every_answer_weighs_the_same(lengths, most):
    local = LocalTraining(window=5, max_windows=most, loss_divisor=80)
    assert (windows_of(lengths, local, KeyedNoise(1)).weights == 1 / 80).all()


@given(lengths=lengths)
def test_every_history_with_answers_is_one_window_of_all(lengths):
    windows = all_of(lengths)
    assert sorted(windows.learners) == np.flatnonzero(lengths).tolist()
    assert windows.lengths.tolist() == lengths[windows.learners].tolist()


def test_rows_are_the_windows_answers_filled_up_with_zeros_to_the_longest():
    windows = windows_of(np.array([1, 0, 5]), LocalTraining(window=3), KeyedNoise(1))
    assert windows.learners.tolist() == [2, 2, 0]
    found = windows.rows(np.array([10, 20, 21, 22, 23, 24]))
    assert torch.equal(found, torch.tensor([[20, 21, 22], [23, 24, 0], [10, 0, 0]]))
    columns = windows.rows(np.arange(12).reshape(6, 2))
    assert torch.equal(columns[1], torch.tensor([[8, 9], [10, 11], [0, 0]]))
    assert columns.transpose(0, 1).is_contiguous()


def test_nobody_has_no_rows():
    windows = windows_of(np.zeros(0, dtype=int), LocalTraining(), KeyedNoise(1))
    assert windows.rows(np.zeros((0, 3), dtype=np.float32)).shape == (0, 0, 3)
