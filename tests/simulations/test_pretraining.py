"""Public synthetic answers: plausible, reproducible, and worth starting from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.models import Scores, model_kind
from cloister_client.practice_features import BASIS, skill_features
from cloister_client.practice_record import answered, answered_by_skill
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import SPECS, ModelSpec, Weights
from cloister_simulations.config import Pretraining
from cloister_simulations.pretraining import pretrained_weights, synthetic_history
from cloister_simulations.synthetic import SyntheticSchools, generate, synthetic_curriculum

SCHOOLS = SyntheticSchools(skills=4, items_per_skill=3, answers_per_learner=40)
CURRICULUM = synthetic_curriculum(SCHOOLS)
SETTINGS = Pretraining(learners=150, answers=30, steps=25)
WIDE = SETTINGS.model_copy(update={"wide_only": True})


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return SPECS.get("dkt").for_curriculum(CURRICULUM, {"hidden": 8})


@pytest.fixture(scope="module")
def weights(spec: ModelSpec) -> Weights:
    return pretrained_weights(spec, CURRICULUM, SETTINGS, seed=1)


def draw(seed: int, answers: int, curriculum: Curriculum = CURRICULUM) -> History:
    return synthetic_history(curriculum, answers, np.random.default_rng(seed))


def auc(spec: ModelSpec, weights: Weights) -> float:
    """Of learners that no start has seen."""
    kind = model_kind(spec)
    histories = [one.history for one in generate(SCHOOLS, 5).learners[:150]]
    return kind.metrics(Scores.concatenate(kind.score(spec, weights, histories)))["auc"]


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
    before, after = auc(spec, spec.initial_weights(CURRICULUM, 1)), auc(spec, weights)
    assert after > max(before, 0.5) + 0.03


def test_the_scale_of_practice_is_that_of_public_synthetic_answers() -> None:
    public = Curriculum(
        name="public",
        skills=tuple(Skill(id=str(skill)) for skill in range(50)),
        items=tuple(Item(id=str(item), skills=(str(item // 2),)) for item in range(100)),
    )
    random = np.random.default_rng(1)
    histories = [synthetic_history(public, 100, random) for _ in range(300)]
    counted = np.concatenate([answered(one) for one in histories]).astype(float)
    counted = np.column_stack([counted, np.ones(len(counted))])
    variances, directions = np.linalg.eigh(counted.T @ counted / len(counted) + 0.02 * np.eye(13))
    np.testing.assert_allclose(BASIS, directions / np.sqrt(variances) @ directions.T, atol=0.006)
    own = np.concatenate([skill_features(answered_by_skill(one)[1])[:, 0, 1:] for one in histories])
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(own.std(axis=0), 1, atol=0.05)


def test_a_wide_start_knows_practice_and_leaves_the_deep_part_at_zero() -> None:
    spec = SPECS.get("dkt").for_curriculum(CURRICULUM, {"hidden": 8, "practice": True})
    weights = pretrained_weights(spec, CURRICULUM, WIDE, 1)
    assert np.abs(weights["practice"]).max() > 0.1
    assert not weights["output"].any()
    assert not weights["skill_practice"].any()
    assert auc(spec, weights) > auc(spec, spec.initial_weights(CURRICULUM, 1)) + 0.05


def test_a_wide_start_without_a_wide_part_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(ConfigError, match="practice: true"):
        pretrained_weights(spec, CURRICULUM, WIDE, 1)
