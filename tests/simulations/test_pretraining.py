"""Public synthetic answers: plausible, reproducible, and worth starting from."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.models import Scores, model_kind
from cloister_shared.curriculum import Curriculum
from cloister_shared.model_specs import SPECS, ModelSpec, Weights
from cloister_simulations.config import Pretraining
from cloister_simulations.pretraining import pretrained_weights, synthetic_history
from cloister_simulations.synthetic import SyntheticSchools, generate, synthetic_curriculum

SCHOOLS = SyntheticSchools(skills=4, items_per_skill=3, answers_per_learner=40)
CURRICULUM = synthetic_curriculum(SCHOOLS)
SETTINGS = Pretraining(learners=150, answers=30, steps=25)


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return SPECS.get("dkt").for_curriculum(CURRICULUM, {"hidden": 8})


@pytest.fixture(scope="module")
def weights(spec: ModelSpec) -> Weights:
    return pretrained_weights(spec, CURRICULUM, SETTINGS, seed=1)


def draw(seed: int, answers: int, curriculum: Curriculum = CURRICULUM) -> History:
    return synthetic_history(curriculum, answers, np.random.default_rng(seed))


@given(st.integers(0, 2**32), st.integers(2, 60))
def test_a_synthetic_history_is_one_that_the_curriculum_allows(seed: int, answers: int) -> None:
    history = draw(seed, answers)
    assert len(history) >= 2
    assert np.array_equal(history.skills, CURRICULUM.item_skills[history.items])
    assert set(np.unique(history.correct)) <= {0.0, 1.0}
    assert (np.diff(history.when) > 0).all()


def test_learners_stay_with_a_skill_and_differ_in_how_much_they_know() -> None:
    histories = [draw(seed, 80) for seed in range(150)]
    same = np.concatenate([np.diff(one.skills[:, 0]) == 0 for one in histories]).mean()
    assert same > 0.6, "a quarter would be chance"
    shares = [one.correct.mean() for one in histories]
    assert np.std(shares) > 0.1
    assert 0.4 < np.mean(shares) < 0.8


def test_practice_helps() -> None:
    drawn = [draw(seed, 80) for seed in range(200)]
    first = np.concatenate([one.correct[:10] for one in drawn]).mean()
    late = np.concatenate([one.correct[-10:] for one in drawn]).mean()
    assert late > first + 0.05


def test_the_same_seed_gives_the_same_weights(spec: ModelSpec, weights: Weights) -> None:
    again = pretrained_weights(spec, CURRICULUM, SETTINGS, seed=1)
    assert all(np.array_equal(again[name], array) for name, array in weights.items())
    other = pretrained_weights(spec, CURRICULUM, SETTINGS, seed=2)
    assert not np.array_equal(other["output"], weights["output"])


def test_pretrained_weights_know_something_of_schools_that_they_never_saw(
    spec: ModelSpec, weights: Weights
) -> None:
    kind = model_kind(spec)
    histories = [one.history for one in generate(SCHOOLS, 5).learners[:150]]
    score = partial(kind.score, spec, histories=histories)
    initial = spec.initial_weights(CURRICULUM, 1)
    before, after = (
        kind.metrics(Scores.concatenate(score(weights=one)))["auc"] for one in (initial, weights)
    )
    assert after > max(before, 0.5) + 0.03
