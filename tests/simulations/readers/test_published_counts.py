"""Counts of the published files.

Of OULAD's 173,912 results, 173 have no score and 1,909 are banked. Of MOOCCubeX's 1,182,745 train
pairs, one for each of the 97,722 learners is the held-out course's number with its last digit cut.
"""

from collections import Counter

import numpy as np
import pytest

from cloister_simulations.dataset import Dataset

COUNTS = {
    "assistments2009": (4_150, 325_589, 16_891, 110),
    "assistments2015": (19_093, 682_797, 100, 100),
    "assistments2017": (1_705, 941_502, 3_162, 102),
    "oulad": (23_291, 171_831, 188, 7),
    "mooccubex": (97_722, 1_085_023 + 97_722, 3_321, 3_321),
}


@pytest.fixture(params=COUNTS)
def named(request: pytest.FixtureRequest) -> tuple[str, Dataset]:
    return request.param, request.getfixturevalue(request.param)


def test_learners_answers_items_and_skills_are_as_published(named: tuple[str, Dataset]) -> None:
    name, dataset = named
    counts = (
        len(dataset.learners),
        dataset.answers,
        len(dataset.curriculum.items),
        len(dataset.curriculum.skills),
    )
    assert counts == COUNTS[name]


def test_every_learner_stands_once_and_has_an_answer(named: tuple[str, Dataset]) -> None:
    _, dataset = named
    assert len({learner.key for learner in dataset.learners}) == len(dataset.learners)
    assert min(len(learner.history) for learner in dataset.learners) >= 1


def test_every_skill_of_an_answer_is_one_of_its_items(named: tuple[str, Dataset]) -> None:
    _, dataset = named
    items = np.concatenate([learner.history.items for learner in dataset.learners])
    skills = np.concatenate([learner.history.skills for learner in dataset.learners])
    assert (dataset.curriculum.item_skills[items] == skills).any(axis=1).all()


def test_items_stand_in_the_order_of_their_numbers(named: tuple[str, Dataset]) -> None:
    _, dataset = named
    numbers = [int(item.id) for item in dataset.curriculum.items]
    assert numbers == sorted(numbers)


def test_the_folds_are_the_published_ones(
    assistments2009: Dataset, assistments2015: Dataset, assistments2017: Dataset
) -> None:
    assert folds(assistments2009) == dict.fromkeys(range(1, 6), 830)
    assert folds(assistments2015) == {-1: 3818, **dict.fromkeys(range(5), 3055)}
    assert folds(assistments2017) == dict.fromkeys(range(1, 6), 341)


def test_four_schools_of_2017_are_known(assistments2017: Dataset) -> None:
    schools = Counter(learner.institution for learner in assistments2017.learners)
    assert schools == {
        "school-1": 75,
        "school-2": 275,
        "school-3": 101,
        "school-4": 138,
        None: 1116,
    }


def folds(dataset: Dataset) -> dict[int | None, int]:
    return dict(Counter(learner.fold for learner in dataset.learners))


def test_home_of_most_learners_of_mooccubex_is_one_provider(mooccubex: Dataset) -> None:
    homes = Counter(learner.institution for learner in mooccubex.learners)
    assert len(homes) == 146
    assert homes["school-8604"] == 52_882
    assert homes[None] == 97


def test_no_learner_of_mooccubex_met_the_held_out_course_before(mooccubex: Dataset) -> None:
    for learner in mooccubex.learners:
        assert len(np.unique(learner.history.items)) == len(learner.history) >= 5


def test_every_learner_of_oulad_lives_in_one_of_thirteen_regions(oulad: Dataset) -> None:
    assert len({learner.institution for learner in oulad.learners} - {None}) == 13
