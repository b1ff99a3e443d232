import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister_client.models.ranking import queries
from cloister_shared.privacy import Budget, KeyedNoise
from cloister_simulations.baselines import BASELINES, PRIVATE_BASELINES, Allowance

answers = st.tuples(st.integers(0, 4), st.integers(0, 1))
learners = st.lists(answers, min_size=2, max_size=8)
law = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def private(baseline):
    """A private baseline as any other, with the same noise at every call."""

    def predict(train, evaluation, curriculum):
        budget = Budget(epsilon=1, delta=1e-6)
        return baseline(train, evaluation, curriculum, Allowance(budget, 1.0, 10, KeyedNoise(1)))

    return predict


TRACING = BASELINES["dkt"] | {name: private(one) for name, one in PRIVATE_BASELINES["dkt"].items()}
KINDS = {**BASELINES, "dkt": TRACING}


def history_of(make_history, rows):
    return make_history([item for item, _ in rows], [correct for _, correct in rows])


@pytest.mark.parametrize("name", TRACING)
@given(train=st.lists(learners, max_size=4), past=learners, futures=st.tuples(learners, learners))
@law
def test_a_tracing_prediction_does_not_depend_on_its_own_answer_or_later_ones(
    *, name, curriculum, make_history, train, past, futures
):
    """Both futures begin with the same item, but it may be answered differently."""
    first, second = ([(0, rows[0][1]), *rows] for rows in futures)
    histories = [history_of(make_history, past + future) for future in (first, second)]
    known = [history_of(make_history, rows) for rows in train]
    one, other = TRACING[name](known, histories, curriculum)
    np.testing.assert_array_equal(one.outputs[: len(past)], other.outputs[: len(past)])


@pytest.mark.parametrize("name", BASELINES["recommender"])
@given(train=st.lists(learners, max_size=4), past=learners, futures=st.tuples(learners, learners))
@law
def test_a_rank_does_not_depend_on_what_the_learner_does_later(
    *, name, curriculum, make_history, train, past, futures
):
    histories = [history_of(make_history, past + future) for future in futures]
    known = [history_of(make_history, rows) for rows in train]
    one, other = BASELINES["recommender"][name](known, histories, curriculum)
    in_past = len(queries(history_of(make_history, past)))
    np.testing.assert_array_equal(one.outputs[:in_past], other.outputs[:in_past])


@pytest.mark.parametrize("kind", KINDS)
@given(train=st.lists(learners, max_size=4), evaluation=st.lists(learners, max_size=4))
@law
def test_every_history_gets_its_scores_in_its_place(
    kind, curriculum, make_history, train, evaluation
):
    """Scoring learners together or one by one is the same."""
    known, asked = (
        [history_of(make_history, rows) for rows in part] for part in (train, evaluation)
    )
    for baseline in KINDS[kind].values():
        together = baseline(known, asked, curriculum)
        assert len(together) == len(asked)
        for history, scores in zip(asked, together, strict=True):
            alone = baseline(known, [history], curriculum)[0]
            np.testing.assert_allclose(scores.outputs, alone.outputs, rtol=1e-5)
            np.testing.assert_array_equal(scores.targets, alone.targets)
