"""Private metrics: one learner moves the sum by at most 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloister_shared.privacy.histograms import (
    BEST_RANKS,
    cells,
    learner_histogram,
)

LABELS = arrays.arrays(np.float64, st.integers(0, 40), elements=st.sampled_from([0.0, 1.0]))


@given(labels=LABELS, bins=st.integers(2, 50), data=st.data())
def test_one_learner_moves_the_sum_by_one_at_most_whatever_a_model_says(labels, bins, data):
    chance = st.floats(allow_nan=True, allow_infinity=True)
    chances = data.draw(arrays.arrays(np.float64, len(labels), elements=chance))
    histogram = learner_histogram("binary", labels, chances, bins)
    assert histogram.shape == (cells("binary", bins),)
    assert np.linalg.norm(histogram) == pytest.approx(min(1, len(labels)))
    ranks = data.draw(arrays.arrays(np.float64, len(labels), elements=st.floats(1, 1e6)))
    histogram = learner_histogram("rank", labels, ranks, bins)
    assert histogram.shape == (BEST_RANKS + 1,)
    assert np.linalg.norm(histogram) == pytest.approx(min(1, len(labels)))
