import numpy as np

from cloister_simulations.baselines.skill_sequences import SkillSequences


def test_sequences_step_together_the_longest_first(curriculum, make_history):
    #                 skills: s0, s1, s0, s0    and s1
    one, other = make_history([0, 2, 1, 0], [1, 0, 1, 0]), make_history([3], [1])
    found = SkillSequences.of([one, other], len(curriculum.skills))
    assert list(found.skill) == [0, 1, 1]
    assert [(step.start, step.stop) for step in found.steps] == [(0, 3), (3, 4), (4, 5)]
    assert list(found.answer) == [0, 1, 4, 2, 3]
    assert list(found.right) == [1, 0, 1, 1, 0]
    assert list(found.goes_on) == [1, 0, 0, 1, 0]


def test_an_answer_to_two_skills_is_in_two_sequences(curriculum, make_history):
    found = SkillSequences.of([make_history([4, 4], [1, 0])], len(curriculum.skills))
    assert sorted(found.skill) == [0, 1]
    np.testing.assert_array_equal(np.bincount(found.answer), [2, 2])


def test_no_answers_make_no_sequences(curriculum):
    found = SkillSequences.of([], len(curriculum.skills))
    assert (len(found.skill), found.steps) == (0, ())
