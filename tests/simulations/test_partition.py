from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cloister_client.histories import History
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import DataError
from cloister_simulations.dataset import Dataset, LearnerRecord
from cloister_simulations.partition import (
    AtRandom,
    ByDirichlet,
    ByInstitution,
    Homes,
    PartitionConfig,
    partition,
)

CURRICULUM = Curriculum(
    name="tiny",
    skills=tuple(Skill(id=f"s{k}") for k in range(3)),
    items=tuple(Item(id=f"i{k}", skills=(f"s{k}",)) for k in range(3)),
)


def make_dataset(learners: int, institutions: tuple[str | None, ...] = (None,)) -> Dataset:
    random = np.random.default_rng(learners)
    return Dataset(
        name="tiny",
        curriculum=CURRICULUM,
        learners=tuple(
            LearnerRecord(
                key=str(number),
                history=make_history(random, number % 7),
                institution=institutions[number % len(institutions)],
            )
            for number in range(learners)
        ),
    )


def make_history(random: np.random.Generator, answers: int) -> History:
    items = random.integers(0, 3, answers).astype(np.int32)
    return History(
        items=items,
        skills=items[:, np.newaxis],
        correct=random.integers(0, 2, answers).astype(np.float32),
        when=np.arange(answers, dtype=np.float64),
    )


def keys(homes: Homes) -> dict[str, list[str]]:
    return {name: [learner.key for learner in own] for name, own in homes.items()}


seeds = st.integers(0, 2**32)
concentrations = st.floats(1e-3, 1e3)
random_configs = st.builds(
    AtRandom, by=st.just("random"), institutions=st.integers(1, 20), seed=seeds
)
dirichlet_configs = st.builds(
    ByDirichlet,
    by=st.just("dirichlet"),
    institutions=st.integers(1, 20),
    trait=st.sampled_from(["level", "main_skill"]),
    concentration=concentrations,
    size_concentration=st.none() | concentrations,
    seed=seeds,
)


@settings(deadline=None)
@given(st.integers(20, 80), random_configs | dirichlet_configs)
def test_every_learner_has_exactly_one_home_and_every_home_a_learner(
    learners: int, config: AtRandom | ByDirichlet
) -> None:
    dataset = make_dataset(learners)
    homes = keys(partition(dataset, config))
    assert len(homes) == config.institutions
    assert all(homes.values())
    everybody = sorted(key for own in homes.values() for key in own)
    assert everybody == sorted(learner.key for learner in dataset.learners)


@settings(deadline=None)
@given(random_configs | dirichlet_configs)
def test_the_same_seed_gives_the_same_homes(config: AtRandom | ByDirichlet) -> None:
    dataset = make_dataset(30)
    assert keys(partition(dataset, config)) == keys(partition(dataset, config))


def test_another_seed_gives_other_homes() -> None:
    dataset = make_dataset(60)
    first, second = (
        keys(partition(dataset, AtRandom(by="random", institutions=3, seed=seed)))
        for seed in (1, 2)
    )
    assert first != second


def test_random_institutions_differ_in_size_by_at_most_one() -> None:
    sizes = Counter(
        len(own) for own in partition(make_dataset(50), parse(by="random", institutions=7)).values()
    )
    assert sizes == {7: 6, 8: 1}


def test_a_small_concentration_makes_levels_differ() -> None:
    assert spread_of_levels(0.05) > 2 * spread_of_levels(1000)


def test_a_small_size_concentration_makes_sizes_differ() -> None:
    dataset = make_dataset(2000)
    sizes = [
        np.std(
            [
                len(own)
                for own in partition(
                    dataset,
                    parse(
                        by="dirichlet",
                        institutions=8,
                        concentration=100,
                        size_concentration=size_concentration,
                    ),
                ).values()
            ]
        )
        for size_concentration in (0.5, None)
    ]
    assert sizes[0] > 3 * sizes[1]


def test_institutions_of_the_data_set_are_kept_and_the_rest_is_dropped_on_request() -> None:
    dataset = make_dataset(10, institutions=("west", None, "east"))
    homes = keys(partition(dataset, parse(by="institution", without_institution="drop")))
    assert homes == {"east": ["2", "5", "8"], "west": ["0", "3", "6", "9"]}


def test_learners_without_an_institution_are_refused_unless_told_otherwise() -> None:
    dataset = make_dataset(10, institutions=("west", None))
    with pytest.raises(DataError, match="5 of the 10 learners of 'tiny' have no institution"):
        partition(dataset, ByInstitution(by="institution"))


def test_a_data_set_without_institutions_cannot_be_partitioned_by_them() -> None:
    with pytest.raises(DataError, match="have no institution"):
        partition(make_dataset(5), parse(by="institution", without_institution="drop"))


def test_an_institution_with_too_few_learners_is_none() -> None:
    dataset = make_dataset(10, ("big", "big", "big", "small"))
    drop = ByInstitution(by="institution", without_institution="drop", fewest_learners=3)
    assert keys(partition(dataset, drop)) == {"big": ["0", "1", "2", "4", "5", "6", "8", "9"]}
    refuse = ByInstitution(by="institution", fewest_learners=3)
    with pytest.raises(DataError, match=r"2 of the 10 .* institution of 3 or more"):
        partition(dataset, refuse)


def test_more_institutions_than_learners_are_refused() -> None:
    with pytest.raises(DataError, match="9 institutions were asked for, 'tiny' has 3 learners"):
        partition(make_dataset(3), parse(by="random", institutions=9))


def test_an_unknown_way_to_partition_is_refused() -> None:
    with pytest.raises(ValidationError, match="'institution', 'random', 'dirichlet'"):
        parse(by="school")


def parse(**document: object) -> PartitionConfig:
    config: PartitionConfig = TypeAdapter(PartitionConfig).validate_python(document)
    return config


def spread_of_levels(concentration: float) -> float:
    config = parse(by="dirichlet", institutions=8, concentration=concentration)
    homes = partition(make_dataset(2000), config)
    levels = [
        np.concatenate([learner.history.correct for learner in own]).mean()
        for own in homes.values()
        if sum(len(learner.history) for learner in own)
    ]
    return float(np.std(levels))
