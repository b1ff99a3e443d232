"""BKT finds planted parameters; its passes are held against all paths, one by one."""

from itertools import pairwise, product

import numpy as np
import pytest

from cloister_client.histories import History
from cloister_simulations.baselines import predict_bkt
from cloister_simulations.baselines.bkt import BktParameters, expect, fit_bkt, known_before
from cloister_simulations.baselines.skill_sequences import SkillSequences

PLANTED = BktParameters(
    prior=np.array([0.2, 0.6, 0.4]),
    learn=np.array([0.1, 0.05, 0.25]),
    guess=np.array([0.15, 0.3, 0.2]),
    slip=np.array([0.1, 0.05, 0.2]),
)


def history(skills, correct):
    columns = np.array(skills, dtype=np.int32).reshape(len(correct), -1)
    right = np.array(correct, dtype=np.float32)
    return History(columns[:, 0], columns, right, np.arange(len(right), dtype=np.float64))


def planted_learner(random, answers=12):
    """Every skill ``answers`` times, by the model itself."""
    skills = np.repeat(np.arange(3), answers)
    correct = []
    for skill in range(3):
        known = random.random() < PLANTED.prior[skill]
        for _ in range(answers):
            chance = 1 - PLANTED.slip[skill] if known else PLANTED.guess[skill]
            correct.append(random.random() < chance)
            known = known or random.random() < PLANTED.learn[skill]
    return history(skills, correct)


def test_planted_parameters_are_recovered():
    random = np.random.default_rng(0)
    sequences = SkillSequences.of([planted_learner(random) for _ in range(1500)], 3)
    found = fit_bkt(sequences, 3, iterations=100, pooled_answers=0)
    for name in ("prior", "learn", "guess", "slip"):
        np.testing.assert_allclose(getattr(found, name), getattr(PLANTED, name), atol=0.05)


def test_a_skill_that_nobody_met_has_the_pooled_parameters():
    random = np.random.default_rng(1)
    learners = [planted_learner(random) for _ in range(30)]
    found = fit_bkt(SkillSequences.of(learners, 4), 4, iterations=10, pooled_answers=5)
    pooled = fit_bkt(
        SkillSequences.of(learners, 4).as_one_skill(), 1, iterations=20, pooled_answers=0
    )
    assert found.guess[3] == pytest.approx(pooled.guess[0], abs=0.02)
    assert found.slip[3] == pytest.approx(pooled.slip[0], abs=0.02)


def path_weights(right, prior, learn, guess, slip):
    """The joint chance of every path of states (known or not) and the answers."""
    for states in product([False, True], repeat=len(right)):
        weight = prior if states[0] else 1 - prior
        for before, after in pairwise(states):
            weight *= float(after) if before else (learn if after else 1 - learn)
        for state, answer in zip(states, right, strict=True):
            correct = 1 - slip if state else guess
            weight *= correct if answer else 1 - correct
        yield np.array(states), weight


@pytest.mark.parametrize("right", [[1], [0, 1], [1, 0, 1, 1], [0, 0, 1, 0, 1]])
def test_expected_numbers_are_those_over_all_paths(right):
    sequences = SkillSequences.of([history([0] * len(right), right)], 1)
    parameters = PLANTED.of(np.array([0]))
    found = expect(sequences, parameters)
    paths = list(path_weights(right, 0.2, 0.1, 0.15, 0.1))
    total = sum(weight for _, weight in paths)
    known = sum(states * weight for states, weight in paths) / total
    learned = sum((states[1:] & ~states[:-1]).sum() * weight for states, weight in paths) / total
    assert found.first_known[0] == pytest.approx(known[0])
    assert found.learned[0] == pytest.approx(learned)
    assert found.known[0] == pytest.approx(known.sum())
    assert found.slipped[0] == pytest.approx((known * (1 - np.array(right))).sum())
    assert found.unknown_before[0] == pytest.approx((1 - known[:-1]).sum())


def test_sequences_of_other_learners_and_skills_do_not_matter():
    one, other = history([0, 1, 0], [1, 0, 1]), history([0, 0, 0, 0], [0, 0, 1, 0])
    together = SkillSequences.of([other, one], 3)
    alone = SkillSequences.of([one], 3)
    of_one = together.answer >= len(other)
    np.testing.assert_allclose(
        known_before(together, PLANTED)[of_one][np.argsort(together.answer[of_one])],
        known_before(alone, PLANTED)[np.argsort(alone.answer)],
    )


def test_an_answer_to_several_skills_is_predicted_by_the_mean_of_theirs(curriculum, make_history):
    train = [make_history([0, 0, 2, 2] * 5, [1, 0, 0, 1] * 5)] * 5
    first, second, both = (
        predict_bkt(train, [make_history([0, item], [1, 1])], curriculum)[0].outputs[0]
        for item in (0, 2, 4)
    )
    assert both == pytest.approx((first + second) / 2)


def test_right_answers_raise_what_is_expected_next(curriculum, make_history):
    train = [make_history([0] * 8, [0, 0, 0, 1, 1, 1, 1, 1]), make_history([0] * 8, [0] * 8)] * 20
    rising = predict_bkt(train, [make_history([0] * 6)], curriculum)[0].outputs
    assert (np.diff(rising) > 0).all()
