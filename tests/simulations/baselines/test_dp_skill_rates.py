import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister_shared.privacy import SampledGaussian, epsilon
from cloister_simulations.baselines import predict_dp_skill_rates
from cloister_simulations.baselines.dp_skill_rates import clipped_counts, smoothed_rates

answers = st.tuples(st.integers(0, 4), st.integers(0, 1))
learners = st.lists(answers, max_size=300)
law = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def history_of(make_history, rows):
    return make_history([item for item, _ in rows], [correct for _, correct in rows])


@given(st.lists(learners, max_size=3), learners, st.sampled_from([0.01, 0.1, 10]))
@law
def test_one_learner_moves_the_release_by_the_clip_at_most(make_history, others, rows, clip_norm):
    known = [history_of(make_history, one) for one in others]
    without = clipped_counts(known, 2, clip_norm)
    with_one = clipped_counts([*known, history_of(make_history, rows)], 2, clip_norm)
    assert np.linalg.norm(with_one - without) <= clip_norm * (1 + 1e-9)


def test_short_histories_count_by_answer_and_long_ones_alike(make_history):
    short, long = make_history([0] * 20), make_history([2] * 400, [0] * 400)
    np.testing.assert_allclose(clipped_counts([short, long], 2, 10), [0, 1, 0.1, 0])


def test_the_noise_spends_the_whole_budget_once(make_allowance):
    allowance = make_allowance(epsilon=2)
    event = SampledGaussian(
        noise_multiplier=allowance.noise_multiplier(1), sampling_rate=1, steps=1
    )
    spent = epsilon([event], 1e-6, order=allowance.budget.order)
    assert 1.98 < spent <= 2


def test_many_learners_show_through_the_noise(curriculum, make_history, make_allowance):
    train = [make_history([0, 1, 2, 3] * 50, [1, 1, 0, 1] * 50)] * 400
    target = [make_history([0, 0, 2, 4])]
    (scores,) = predict_dp_skill_rates(train, target, curriculum, make_allowance(epsilon=4))
    np.testing.assert_allclose(scores.outputs, [1, 0.5, 0.75], atol=0.05)


def test_noise_draws_rates_to_the_common_one_and_never_beyond_0_and_1():
    rates = smoothed_rates(np.array([-3.0, 40.0, 1.0, 60.0]), 1.0)
    assert rates[0] < 1
    assert rates[1] == (60 + 61 / 101) / 101
    assert ((rates >= 0) & (rates <= 1)).all()
