"""Counted practice: what is served equals what was trained on, and nothing looks ahead."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.practice_record import PER_GROUP, answered, of_items, of_skills

SKILLS, ITEMS = 4, 6


@st.composite
def histories(draw: st.DrawFn) -> History:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    length = draw(st.integers(0, 40))
    skills = random.integers(0, SKILLS, (length, 2)).astype(np.int32)
    skills[(random.random(length) < 0.5) | (skills[:, 0] == skills[:, 1]), 1] = -1
    correct = (random.random(length) < 0.5).astype(np.float32)
    items = random.integers(0, ITEMS, length).astype(np.int32)
    return History(items, skills, correct, np.arange(length, dtype=np.float64))


@settings(deadline=None, max_examples=50)
@given(history=histories())
def test_features_of_an_answer_are_those_served_just_before_it(history: History) -> None:
    trained = answered(history)
    for position in range(len(history)):
        before = history[:position]
        skills = history.skills[position]
        served = of_skills(before, SKILLS)[skills[skills >= 0]].mean(axis=0)
        served[PER_GROUP : 2 * PER_GROUP] = of_items(before, ITEMS)[history.items[position]]
        np.testing.assert_allclose(trained[position], served, atol=1e-6)


def test_two_right_answers_then_a_wrong_one_count_as_that() -> None:
    zeros = np.zeros(4, np.int32)
    history = History(zeros, zeros[:, None], np.array([1, 1, 0, 1], np.float32), np.arange(4.0))
    last = answered(history)[3].reshape(3, PER_GROUP)
    np.testing.assert_allclose(last, [[np.log(3), np.log(2), -1, 1, 1]] * 3, rtol=1e-6)
    np.testing.assert_array_equal(answered(history)[0], 0)
