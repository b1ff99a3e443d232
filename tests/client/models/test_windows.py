"""Windows cover a history once, or are a fair draw of it; padding changes nothing."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.models.windows import pad, window_count, window_starts
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import KeyedNoise, SystemNoise


@given(length=st.integers(0, 60), window=st.integers(2, 20))
def test_windows_cover_every_answer_once(length, window):
    local = LocalTraining(window=window)
    starts = window_starts(length, local, KeyedNoise(1))
    covered = [at for start in starts for at in range(start, min(start + window, length))]
    assert covered == list(range(length))
    assert len(starts) == window_count(length, local)


@given(length=st.integers(0, 60), most=st.integers(1, 6), key=st.integers(0, 50))
def test_drawn_windows_are_some_of_them_each_once(length, most, key):
    local = LocalTraining(window=5, max_windows=most)
    starts = window_starts(length, local, KeyedNoise(key)).tolist()
    assert starts == sorted(set(starts))
    assert set(starts) <= set(range(0, length, 5))
    assert len(starts) == window_count(length, local) == min(most, -(-length // 5))


def test_each_window_is_drawn_as_often_as_any_other():
    local, noise = LocalTraining(window=2, max_windows=1), SystemNoise()
    drawn = [int(window_starts(8, local, noise)[0]) for _ in range(2000)]
    counts = np.bincount(np.array(drawn) // 2, minlength=4)
    # 500 expected, standard deviation 19.4; six of them.
    assert (abs(counts - 500) < 116).all()


def test_padding_fills_up_to_the_longest():
    padded = pad([np.array([[1, 2]]), np.array([[3], [4]]), np.zeros((0, 2), dtype=int)], -1)
    expected = [[[1, 2], [-1, -1]], [[3, -1], [4, -1]], [[-1, -1], [-1, -1]]]
    assert torch.equal(padded, torch.tensor(expected))
