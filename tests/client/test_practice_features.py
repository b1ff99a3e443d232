"""Public features of practice: uncorrelated in synthetic answers, served as they were trained."""

import numpy as np

from cloister_client.histories import History
from cloister_client.practice_features import (
    BASIS,
    counted_weights,
    shared_features,
    skill_features,
)
from cloister_client.practice_record import FEATURES, SKILL, answered, answered_by_skill


def test_counted_weights_say_what_the_shared_weights_say():
    random = np.random.default_rng(0)
    counted = random.standard_normal((50, FEATURES)).astype(np.float32)
    weights = random.standard_normal(FEATURES + 1).astype(np.float32)
    own, constant = counted_weights(weights)
    np.testing.assert_allclose(
        counted @ own + constant, shared_features(counted) @ weights, atol=1e-3
    )


def test_the_basis_can_be_undone():
    assert np.linalg.cond(BASIS) < 10


def test_a_skills_features_are_its_own_whatever_else_an_item_needs():
    correct = np.array([1, 0, 1, 1], dtype=np.float32)
    alone = np.zeros((4, 1), dtype=np.int32)
    with_another = np.array([[0, -1], [0, 1], [1, 0], [0, -1]], dtype=np.int32)
    histories = [
        History(np.zeros(4, np.int32), skills, correct, np.arange(4.0))
        for skills in (alone, with_another)
    ]
    one, other = (skill_features(answered_by_skill(history)[1]) for history in histories)
    np.testing.assert_array_equal(one[:, 0], [other[0, 0], other[1, 0], other[2, 1], other[3, 0]])


def test_the_skills_part_of_an_answer_is_the_mean_over_its_skills():
    skills = np.array([[0, -1], [0, 1], [1, 0], [-1, -1]], dtype=np.int32)
    history = History(np.zeros(4, np.int32), skills, np.ones(4, np.float32), np.arange(4.0))
    counted, by_skill = answered_by_skill(history)
    np.testing.assert_array_equal(counted, answered(history))
    np.testing.assert_allclose(counted[1, SKILL], by_skill[1].mean(axis=0))
    np.testing.assert_allclose(counted[0, SKILL], by_skill[0, 0])
    assert not counted[3, SKILL].any()


def test_a_skill_that_was_never_met_begins_a_block():
    new, later = skill_features(np.array([[0, 0.5, 0, 0, 0], [0.2, 0, 0.8, 1, 0.5]], np.float32))
    assert new[2] > later[2]
    assert later[1] > new[1]
    assert new[0] == later[0] == 1
