"""A coordinator sends whatever weights it likes; one learner still moves the delta by the bound."""

from dataclasses import replace

import numpy as np
import pytest

from cloister_client.histories import History
from cloister_client.training import train_round
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining

from ..learners import SKILLS, PairedNoise, RecordingSource, made_up_history, random_weights
from .checks import Case, check_sensitivity, flat_delta, make_case, source_of


def case_of(spec: DktSpec, weights: Weights, window: int = 200) -> Case:
    return replace(
        make_case(),
        spec=spec,
        weights=weights,
        local=LocalTraining(learning_rate=10.0, window=window),
    )


def overflowing_case() -> Case:
    """A second step multiplies states by ±3e38 and sums them up: infinity minus infinity."""
    spec = DktSpec(skills=SKILLS, hidden=256)
    weights = random_weights(spec)
    weights["input"][:] = 5
    weights["recurrent"][:, :128], weights["recurrent"][:, 128:] = 3e38, -3e38
    return case_of(spec, weights)


def chaotic_case() -> Case:
    """A difference in the last bit grows to the size of the whole gradient within the window."""
    spec = DktSpec(skills=SKILLS, hidden=32)
    random = np.random.default_rng(1)
    scales = {"input": 5.0, "recurrent": 10 / np.sqrt(32), "output": 0.1}
    weights = {
        name: (scales[name] * random.standard_normal(shape)).astype(np.float32)
        for name, shape in spec.shapes().items()
    }
    weights["input"][:, 32:64] += 2
    return case_of(spec, weights)


def cancelling_case() -> tuple[Case, list[History]]:
    """Two units that are alike, and a skill that reads their difference, times 1e10.

    Its logit is zero, and the gradient of what came before ±1e10. Who was asked it twice after the
    same answer, once right and once wrong, has next to no gradient: their parts cancel.
    """
    spec = DktSpec(skills=SKILLS, hidden=2)
    weights = {name: np.zeros_like(weight) for name, weight in random_weights(spec).items()}
    weights["input"][:] = 1
    weights["output"][1] = [1e10, -1e10, 0]
    case = case_of(spec, weights, window=2)
    others = [asked_twice(1, 1) for _ in range(5)]
    return case, [*others, asked_twice(1, 1, 1, 0)]


def asked_twice(*correct: int) -> History:
    """Skill 0 and skill 1 in turn."""
    history = made_up_history(len(correct), 1)
    skills = np.arange(len(correct), dtype=np.int32)[:, None] % 2
    return replace(history, skills=skills, correct=np.array(correct, dtype=np.float32))


@pytest.mark.usefixtures("_either_way")
def test_a_learner_whose_huge_parts_cancel_cannot_swallow_the_others():
    check_sensitivity(train_round, *cancelling_case())


def test_one_learner_with_more_answers_cannot_overflow_the_others_padding():
    """Their gradients would turn from clipped ones into none at all when that learner leaves."""
    one_answer_each = [made_up_history(1, seed) for seed in range(6)]
    check_sensitivity(train_round, overflowing_case(), [*one_answer_each, made_up_history(3, 9)])


@pytest.mark.parametrize("learners", [2, 4, 8])
def test_one_more_learner_cannot_turn_the_others_by_rounding(learners):
    case = chaotic_case()
    everybody = [made_up_history(200, seed) for seed in range(learners)]
    check_sensitivity(train_round, case, everybody)


def test_a_learner_whose_gradient_overflows_contributes_exactly_nothing():
    case = overflowing_case()
    overflowing = made_up_history(3, 1)
    with_learner = flat_delta(train_round, case, [overflowing], PairedNoise(1))
    without = flat_delta(train_round, case, [], PairedNoise(1))
    np.testing.assert_array_equal(with_learner, without)


@pytest.mark.parametrize("name", ["input", "recurrent", "output"])
def test_the_largest_weights_there_are_change_no_bound(name):
    spec = DktSpec(skills=SKILLS, hidden=8)
    weights = random_weights(spec)
    weights[name] = np.float32(3.4e38) * np.sign(weights[name])
    histories = [made_up_history(answers, seed) for seed, answers in enumerate((1, 2, 12, 30))]
    case = case_of(spec, weights, window=10)
    # The weights swallow the delta, so the bound is looked at where they are small.
    rest = [one for one in spec.shapes() if one != name]
    zeros = {one: np.zeros_like(weights[one]) for one in rest}
    check_sensitivity(train_round, replace(case, weights={**weights, **zeros}), histories)
    check_sensitivity(train_round, case, histories)


def test_a_step_that_overflows_the_weights_ends_the_round():
    case = make_case(steps=3, noise_multiplier=100, clip_norm=10, sampling_rate=1e-38)
    source = RecordingSource(source_of([made_up_history(7, 1)]))
    result = train_round(
        case.weights,
        source,
        case.mechanism,
        case.spec,
        PairedNoise(1),
        local=case.local,
        declared_size=case.declared_size,
    )
    assert len(source.loaded) == 1
    assert not np.isfinite(result.delta["input"]).all()
    assert [event.steps for event in result.events] == [3]
