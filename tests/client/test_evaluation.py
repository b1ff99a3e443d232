"""``evaluate_round``: evaluation learners alone are read, and one of them moves it by 1 at most."""

import numpy as np
import pytest

from cloister_client.evaluation import evaluate_round
from cloister_client.histories import MemoryHistorySource
from cloister_shared.errors import MessageError
from cloister_shared.model_specs import ModelSpec, parse_spec
from cloister_shared.plan import MetricPlan
from cloister_shared.privacy.noise import KeyedNoise, SystemNoise
from cloister_shared.privacy.release import grid_step

from .learners import ConstantNoise, RecordingSource, made_up_history, random_weights

SPECS = {
    "dkt": parse_spec({"kind": "dkt", "skills": 5, "hidden": 3}),
    "recommender": parse_spec({"kind": "recommender", "items": 12, "factors": 2}),
}
METRICS = MetricPlan(every_rounds=1, noise_multiplier=3.0, bins=10)
HISTORIES = {f"learner {n}": made_up_history(n, n) for n in (0, 1, 2, 7, 30, 300)}
EVALUATION = dict.fromkeys(HISTORIES, "evaluation")


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SPECS[request.param]


@pytest.mark.parametrize("left_out", HISTORIES)
def test_one_learner_moves_the_histogram_by_one_at_most(spec, left_out):
    others = {name: one for name, one in HISTORIES.items() if name != left_out}
    weights = random_weights(spec)
    both = [
        evaluate_round(
            weights, MemoryHistorySource(some, EVALUATION), METRICS, spec, ConstantNoise()
        ).histogram
        for some in (HISTORIES, others)
    ]
    step = grid_step(1.0, len(both[0]))
    assert np.linalg.norm(both[0] - both[1]) <= 1 + step * np.sqrt(len(both[0]))
    assert all((one / step == np.rint(one / step)).all() for one in both), "off the public grid"


GROUPED = METRICS.model_copy(update={"groups": ("A", "B")})
GROUPS = {"learner 7": "A", "learner 30": "B", "learner 2": "a group of no plan"}


@pytest.mark.parametrize("left_out", HISTORIES)
def test_one_learner_moves_the_histograms_of_all_groups_together_by_one_at_most(spec, left_out):
    others = {name: one for name, one in HISTORIES.items() if name != left_out}
    weights = random_weights(spec)
    both = [
        evaluate_round(
            weights,
            MemoryHistorySource(some, EVALUATION, groups_of=GROUPS),
            GROUPED,
            spec,
            ConstantNoise(),
        ).histogram
        for some in (HISTORIES, others)
    ]
    assert both[0].shape == both[1].shape == (np.prod(GROUPED.shape(spec.outcome)),)
    step = grid_step(1.0, len(both[0]))
    assert np.linalg.norm(both[0] - both[1]) <= 1 + step * np.sqrt(len(both[0]))


def test_a_learner_is_counted_into_their_group_and_without_one_among_the_others(spec):
    source = MemoryHistorySource(HISTORIES, EVALUATION, groups_of=GROUPS)
    weights, quiet = random_weights(spec), replace_noise(GROUPED, 1e-12)
    found = evaluate_round(weights, source, quiet, spec, SystemNoise()).histogram
    rows = found.reshape(GROUPED.shape(spec.outcome))
    for row, members in zip(
        rows,
        (["learner 7"], ["learner 30"], ["learner 0", "learner 1", "learner 2", "learner 300"]),
        strict=True,
    ):
        alone = MemoryHistorySource({name: HISTORIES[name] for name in members}, EVALUATION)
        plain = replace_noise(METRICS, 1e-12)
        expected = evaluate_round(weights, alone, plain, spec, SystemNoise()).histogram
        np.testing.assert_allclose(row, expected, atol=1e-3)


def test_the_price_does_not_depend_on_the_number_of_groups(spec):
    nobody = MemoryHistorySource({})
    event = evaluate_round(random_weights(spec), nobody, GROUPED, spec, SystemNoise()).event
    assert event == METRICS.event(spec.kind)


def test_learners_of_the_evaluation_role_and_of_these_cohorts_are_read(spec):
    roles = {**EVALUATION, "learner 300": "train"}
    cohorts = {"learner 7": "2024"}
    source = RecordingSource(MemoryHistorySource(HISTORIES, roles, cohorts))
    evaluate_round(random_weights(spec), source, METRICS, spec, SystemNoise(), cohorts=("all",))
    assert source.asked == [("evaluate", ("all",))]
    assert source.loaded == [["learner 0", "learner 1", "learner 2", "learner 30"]]


def test_noise_has_the_scale_of_the_plan_and_is_all_there_is_where_nobody_evaluates(spec):
    nobody = MemoryHistorySource(HISTORIES)
    weights = random_weights(spec)
    drawn = np.concatenate(
        [
            evaluate_round(weights, nobody, METRICS, spec, KeyedNoise(1, number)).histogram
            for number in range(100)
        ]
    )
    assert drawn.std() == pytest.approx(METRICS.noise_multiplier, rel=0.1)
    assert abs(drawn.mean()) < 0.4


def test_the_event_is_a_gaussian_on_everybody(spec):
    nobody = MemoryHistorySource({})
    event = evaluate_round(random_weights(spec), nobody, METRICS, spec, SystemNoise()).event
    assert event == METRICS.event(spec.kind)
    assert (event.event.noise_multiplier, event.event.sampling_rate) == (3.0, 1.0)


def test_hostile_weights_change_neither_length_nor_bound(spec):
    """Weights so large that what they say of some learners is no number."""
    source = MemoryHistorySource(HISTORIES, EVALUATION)
    weights = {name: np.full_like(array, 3e38) for name, array in random_weights(spec).items()}
    quiet = replace_noise(METRICS, 1e-12)
    histogram = evaluate_round(weights, source, quiet, spec, SystemNoise()).histogram
    assert np.isfinite(histogram).all()
    assert np.linalg.norm(histogram) <= len(HISTORIES)


def replace_noise(metrics: MetricPlan, noise_multiplier: float) -> MetricPlan:
    return metrics.model_copy(update={"noise_multiplier": noise_multiplier})


def test_weights_of_another_form_are_refused(spec):
    weights = {name: array[:1] for name, array in random_weights(spec).items()}
    with pytest.raises(MessageError):
        evaluate_round(weights, MemoryHistorySource({}), METRICS, spec, SystemNoise())
