import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cloister_client.models.base import Scores
from cloister_client.models.classification import auc
from cloister_shared.privacy import SampledGaussian, epsilon
from cloister_simulations.baselines import (
    predict_dp_logistic_regression,
    predict_logistic_regression,
)
from cloister_simulations.baselines.counted_answers import (
    FEATURES,
    CountedAnswers,
    counted_features,
)
from cloister_simulations.baselines.dp_logistic_regression import STEPS

answers = st.tuples(st.integers(0, 4), st.integers(0, 1))
learners = st.lists(answers, max_size=8)
law = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def history_of(make_history, rows):
    return make_history([item for item, _ in rows], [correct for _, correct in rows])


def table(histories, curriculum):
    return CountedAnswers.of(histories, counted_features(histories, True), curriculum)


def literal_gradient(history, weights):
    """One learner's gradient, answer by answer."""
    features = counted_features([history], True)
    total = np.zeros(len(weights))
    for place in range(len(history)):
        skills = history.skills[place][history.skills[place] >= 0]
        inputs = np.zeros(len(weights))
        inputs[:FEATURES] = features[place]
        inputs[FEATURES + skills] = 1 / len(skills)
        residual = history.correct[place] - expit(inputs @ weights)
        total += residual * inputs / max(len(history), 200)
    return total


@given(
    st.lists(learners, min_size=1, max_size=4), st.sampled_from([0.001, 0.02, 10]), st.integers()
)
@law
def test_the_sum_is_that_of_each_learners_clipped_gradient(
    curriculum, make_history, train, clip_norm, seed
):
    known = [history_of(make_history, rows) for rows in train]
    weights = np.random.default_rng(abs(seed)).normal(0, 0.3, FEATURES + 2)
    gradients = [literal_gradient(one, weights) for one in known]
    norms = [max(float(np.linalg.norm(one)), 1e-300) for one in gradients]
    expected = sum(
        one * min(1, clip_norm / norm) for one, norm in zip(gradients, norms, strict=True)
    )
    found = table(known, curriculum).clipped_sum(weights, clip_norm)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@given(st.lists(learners, max_size=3), learners)
@law
def test_one_learner_moves_the_sum_by_the_clip_at_most(curriculum, make_history, others, rows):
    known = [history_of(make_history, one) for one in others]
    weights = np.linspace(-1, 1, FEATURES + 2)
    before = table(known, curriculum).clipped_sum(weights, 0.003)
    after = table([*known, history_of(make_history, rows)], curriculum).clipped_sum(weights, 0.003)
    assert np.linalg.norm(after - before) <= 0.003 * (1 + 1e-6)


def test_all_steps_together_spend_the_budget(make_allowance):
    allowance = make_allowance(epsilon=4)
    event = SampledGaussian(
        noise_multiplier=allowance.noise_multiplier(STEPS), sampling_rate=1, steps=STEPS
    )
    assert 3.96 < epsilon([event], 1e-6, order=allowance.budget.order) <= 4


def test_the_noise_is_the_only_difference_between_two_trainings(
    curriculum, make_history, make_allowance
):
    train = [make_history([0, 2, 1, 4], [1, 0, 1, 1])] * 10
    same, again, other = (
        predict_dp_logistic_regression(train, train[:1], curriculum, make_allowance(key=key))[0]
        for key in (1, 1, 2)
    )
    np.testing.assert_array_equal(same.outputs, again.outputs)
    assert (same.outputs != other.outputs).any()


def test_able_learners_are_told_from_others_under_noise(curriculum, make_history, make_allowance):
    able = [make_history([0, 2] * 10, [ability] * 20) for ability in (0, 1)] * 100
    found = predict_dp_logistic_regression(able, able[:2], curriculum, make_allowance(learners=200))
    assert auc(Scores.concatenate(found)) > 0.95


@pytest.mark.parametrize("item_counts", [True, False])
def test_only_item_counts_tell_items_of_one_skill_apart(curriculum, make_history, item_counts):
    """Item 0 was answered wrong and item 1 right; next comes one of them."""
    train = [make_history([0, 1, 0, 1], [0, 1, 0, 1])] * 20 + [make_history([2], [0])]
    target = [make_history([0, 1, item], [0, 1, 1]) for item in (0, 1)]
    one, other = (
        scores.outputs[-1]
        for scores in predict_logistic_regression(
            train, target, curriculum, item_counts=item_counts
        )
    )
    assert (one == other) != item_counts
