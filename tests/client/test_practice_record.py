"""Counted practice: what is served equals what was trained on, and nothing looks ahead."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.practice_record import ALL, ITEM, SKILL, answered, of_items, of_skills

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
        served[ITEM] = of_items(before, ITEMS)[history.items[position]]
        np.testing.assert_allclose(trained[position], served, atol=1e-6)


def test_two_right_answers_then_a_wrong_one_count_as_that() -> None:
    last = answered(_one_skill([1, 1, 0, 1]))[3]
    np.testing.assert_allclose(last[SKILL], [3 / 5 - 0.5, 0, np.log(4) / 2, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(last[ITEM], [np.log(3) / 4, np.log(2) / 4, -0.25, 0.25, 0.25])
    np.testing.assert_allclose(last[ALL], [4 / 7 - 0.5, 1 / 4], rtol=1e-6)


def test_nobody_knows_anything_of_a_first_answer() -> None:
    expected = np.zeros(12)
    expected[SKILL.start + 1] = 0.5  # a block begins
    np.testing.assert_array_equal(answered(_one_skill([1]))[0], expected)


def test_a_run_of_right_answers_ends_with_a_wrong_one_and_with_the_block() -> None:
    runs = answered(_one_skill([1, 1, 1, 0, 1, 1]))[:, SKILL][:, 3:]
    np.testing.assert_allclose(runs[:, 0], np.array([0, 1, 2, 3, 0, 1]) / 3, rtol=1e-6)
    np.testing.assert_allclose(runs[:, 1], [0, 0, 0, 0.5, 0, 0])
    history = _one_skill([1, 1, 1])
    skills = np.array([[0], [1], [0]], np.int32)
    apart = answered(History(history.items, skills, history.correct, history.when))
    np.testing.assert_array_equal(apart[:, SKILL][:, 1:], [[0.5, 0, 0, 0]] * 3)


def _one_skill(correct: list[int]) -> History:
    """Answers to one item of one skill."""
    zeros = np.zeros(len(correct), np.int32)
    when = np.arange(len(correct), dtype=np.float64)
    return History(zeros, zeros[:, None], np.array(correct, np.float32), when)
