import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_simulations.baselines.recency import HALF_LIVES, recency_features


def joined(*histories):
    learners = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    return History.concatenate(histories), learners


def test_a_skill_is_new_just_met_or_met_some_answers_ago(curriculum, make_history):
    features = recency_features(*joined(make_history([0, 1, 2, 2, 0]), make_history([0])))
    new, just_met, between = features[:, :3].T
    assert list(new) == [1, 0, 1, 0, 0, 1]
    assert list(just_met) == [0, 1, 0, 1, 0, 0]
    assert list(between) == pytest.approx([0, 0, 0, 0, np.log(3) / 4, 0])


answers = st.lists(st.integers(0, 1), min_size=1, max_size=12)


@given(answers, answers)
@settings(max_examples=30)
def test_outcomes_decay_within_a_learner(one, other):
    histories = [
        History(
            np.zeros(len(right), dtype=np.int32),
            np.zeros((len(right), 1), dtype=np.int32),
            np.array(right, dtype=np.float32),
            np.arange(len(right), dtype=np.float64),
        )
        for right in (one, other)
    ]
    features = recency_features(*joined(*histories))[:, 3:]
    expected = []
    for right in (one, other):
        for place in range(len(right)):
            ages = place - 1 - np.arange(place)
            weights = 0.5 ** (ages[:, None] / np.array(HALF_LIVES))
            signed = np.where(np.array(right[:place]) > 0, 1.0, -1.0)
            expected.append(signed @ weights / (weights.sum(axis=0) + 2))
    np.testing.assert_allclose(features, expected, atol=1e-6)
