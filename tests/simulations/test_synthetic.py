from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister_client.models.base import Scores
from cloister_client.models.classification import auc
from cloister_client.models.ranking import ranking_metrics
from cloister_shared.curriculum import load_curriculum
from cloister_simulations.baselines.best_lr import predict_best_lr
from cloister_simulations.baselines.markov import rank_by_markov
from cloister_simulations.baselines.popularity import rank_by_popularity
from cloister_simulations.dataset import Dataset
from cloister_simulations.synthetic import (
    TERM_START,
    School,
    SyntheticSchools,
    generate,
    synthetic_curriculum,
)
from cloister_simulations.topics import TOPICS

SMALL = SyntheticSchools(
    schools=(School(name="north", learners=40), School(name="south", learners=25, level=-1)),
    answers_per_learner=20,
)


@pytest.fixture(scope="module")
def schools() -> Dataset:
    return generate(SyntheticSchools(), seed=1)


def right_share(dataset: Dataset, school: str | None = None) -> float:
    own = [one.history for one in dataset.learners if school in (None, one.institution)]
    return float(np.concatenate([history.correct for history in own]).mean())


def test_every_school_has_its_learners_under_keys_of_their_own(schools: Dataset) -> None:
    homes = [learner.institution for learner in schools.learners]
    assert [homes.count(school.name) for school in SyntheticSchools().schools] == [
        300,
        200,
        120,
        60,
    ]
    assert len({learner.key for learner in schools.learners}) == len(homes)


def test_answers_are_neither_trivial_nor_hopeless_to_predict(schools: Dataset) -> None:
    histories = [learner.history for learner in schools.learners]
    train, test = histories[::2], histories[1::2]
    scores = predict_best_lr(train, test, schools.curriculum)
    assert 0.72 < auc(Scores.concatenate(scores)) < 0.80
    assert 0.55 < right_share(schools) < 0.75


def test_the_next_item_can_be_learned_from_the_last(schools: Dataset) -> None:
    histories = [learner.history for learner in schools.learners]
    train, test = histories[::2], histories[1::2]
    markov, popular = (
        ranking_metrics(Scores.concatenate(rank(train, test, schools.curriculum)))["ndcg@10"]
        for rank in (rank_by_markov, rank_by_popularity)
    )
    assert markov > 3 * popular


def test_schools_of_a_higher_level_answer_better(schools: Dataset) -> None:
    assert right_share(schools, "oakfield") > right_share(schools, "hillcrest") + 0.05


def test_practice_helps(schools: Dataset) -> None:
    more = generate(SyntheticSchools(practice_gain=1.0), seed=1)
    assert right_share(more) > right_share(schools) + 0.05


def test_unmastered_prerequisites_hold_back(schools: Dataset) -> None:
    freed = generate(SyntheticSchools(prerequisite_weight=0), seed=1)
    assert right_share(freed) > right_share(schools) + 0.03


configs = st.builds(
    SyntheticSchools,
    schools=st.just((School(name="only", learners=12),)),
    skills=st.integers(2, len(TOPICS)),
    items_per_skill=st.integers(2, 15),
    answers_per_learner=st.floats(2, 40),
    answers_spread=st.floats(0, 1.5),
    mastery_streak=st.integers(1, 5),
    skip_share=st.floats(0, 0.9),
)


@settings(deadline=None, max_examples=20)
@given(configs, st.integers(0, 2**32))
def test_histories_are_well_formed(config: SyntheticSchools, seed: int) -> None:
    dataset = generate(config, seed)
    for history in (learner.history for learner in dataset.learners):
        assert len(history) >= 2
        assert (history.skills == dataset.curriculum.item_skills[history.items]).all()
        assert set(np.unique(history.correct)) <= {0, 1}
        assert history.when[0] >= TERM_START
        assert (np.diff(history.when) >= 0).all()


def test_the_mean_number_of_answers_is_the_one_asked_for() -> None:
    config = SyntheticSchools(
        schools=(School(name="large", learners=3000),), answers_per_learner=30
    )
    assert generate(config, seed=1).answers / 3000 == pytest.approx(30, rel=0.05)


def test_the_same_seed_gives_the_same_schools_and_another_seed_others() -> None:
    first, again, other = (generate(SMALL, seed) for seed in (1, 1, 2))
    assert answers_of(first) == answers_of(again)
    assert answers_of(first) != answers_of(other)


def answers_of(dataset: Dataset) -> list[tuple[list[int], list[float]]]:
    return [(one.history.items.tolist(), one.history.when.tolist()) for one in dataset.learners]


def test_the_curriculum_is_public_and_depends_on_no_learner() -> None:
    digests = {generate(SMALL, seed).curriculum.digest for seed in (1, 2)}
    assert digests == {synthetic_curriculum(SMALL).digest}


def test_a_topic_comes_after_its_prerequisites() -> None:
    ids = [topic.id for topic in TOPICS]
    for position, topic in enumerate(TOPICS):
        assert set(topic.prerequisites) <= set(ids[:position])


def test_no_exercise_stands_twice() -> None:
    texts = [item.text for topic in TOPICS for item in topic.items(30)]
    assert len(set(texts)) == 30 * len(TOPICS)


def test_a_school_stands_once() -> None:
    twice = (School(name="same", learners=1), School(name="same", learners=2))
    with pytest.raises(ValidationError, match="each school stands once"):
        SyntheticSchools(schools=twice)


def test_the_example_curriculum_is_one() -> None:
    path = Path(__file__).parents[2] / "configs" / "curriculum" / "example.json"
    curriculum = load_curriculum(path)
    assert (len(curriculum.skills), len(curriculum.items)) == (6, 12)
    assert all(skill.name for skill in curriculum.skills)
    assert all(item.title and item.text for item in curriculum.items)
    assert any(skill.prerequisites for skill in curriculum.skills)
    assert any(len(item.skills) > 1 for item in curriculum.items)


GROUPED = {"groups": [{"name": "A", "share": 0.5}, {"name": "B", "share": 0.2, "level": -2.0}]}


def test_groups_change_no_answer_but_those_of_groups_with_another_level() -> None:
    plain = generate(SyntheticSchools(), seed=3).learners
    level = generate(SyntheticSchools(groups=[{"name": "A", "share": 0.5}]), seed=3).learners
    for one, other in zip(plain, level, strict=True):
        assert one.history.correct.tolist() == other.history.correct.tolist()
    shares = [np.mean([one.group == name for one in level]) for name in ("A", None)]
    assert shares == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_group_of_lower_level_answers_less_often_right() -> None:
    learners = generate(SyntheticSchools.model_validate(GROUPED), seed=3).learners
    right = {
        group: np.mean([one.history.correct.mean() for one in learners if one.group == group])
        for group in ("A", "B", None)
    }
    assert right["B"] < right["A"] - 0.2
    assert right["A"] == pytest.approx(right[None], abs=0.05)


@pytest.mark.parametrize(
    "groups",
    [
        [{"name": "A", "share": 0.7}, {"name": "B", "share": 0.4}],
        [{"name": "A", "share": 0.1}, {"name": "A", "share": 0.1}],
        [{"name": "other", "share": 0.1}],
    ],
)
def test_groups_that_make_no_sense_are_refused(groups: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        SyntheticSchools.model_validate({"groups": groups})
