"""Every learner has one home and one permanent role, and declared sizes tell no true count."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister_client.config import declared_size_for
from cloister_shared.errors import DataError
from cloister_simulations.config import PublicData, SimulationConfig
from cloister_simulations.dataset import data_directory
from cloister_simulations.population import Population, populate, read_data

MakeConfig = Callable[..., SimulationConfig]


@pytest.fixture(scope="module")
def population(make_config: MakeConfig) -> Population:
    return populate(make_config())


def schools(*sizes: int) -> dict[str, Any]:
    named = [{"name": f"school-{place}", "learners": size} for place, size in enumerate(sizes)]
    generator = {"schools": named, "skills": 2, "items_per_skill": 2, "answers_per_learner": 4}
    return {"source": "synthetic", "generator": generator}


def test_every_learner_has_one_home_and_one_role(population: Population) -> None:
    keys = [one.key for records in population.institutions.values() for one in records]
    assert len(set(keys)) == len(keys) == 110
    assert set(keys) == population.roles.keys()
    for name, records in population.institutions.items():
        train, evaluation = population.train(name), population.evaluation(name)
        assert {one.key for one in train}.isdisjoint(one.key for one in evaluation)
        assert len(train) + len(evaluation) == len(records)


def test_the_same_seed_gives_the_same_roles(
    population: Population, make_config: MakeConfig
) -> None:
    assert populate(make_config()).roles == population.roles
    assert populate(make_config(seed=4)).roles != population.roles


def test_about_the_share_asked_for_evaluates(make_config: MakeConfig) -> None:
    config = make_config(data=schools(1500, 1500), evaluation={"share": 0.3})
    roles = list(populate(config).roles.values())
    assert roles.count("evaluation") / len(roles) == pytest.approx(0.3, abs=0.04)


def test_a_declared_size_is_a_public_one_that_is_not_too_small(make_config: MakeConfig) -> None:
    population = populate(make_config(data=schools(20, 90, 400)))
    for name, size in population.declared_sizes.items():
        assert size == declared_size_for(size) >= len(population.train(name))


def test_training_sees_no_evaluation_learner_and_evaluation_sees_all(
    population: Population,
) -> None:
    source = population.source("north", "south")
    trained = {one.key for one in population.train("north", "south")}
    assert set(source.learners("train")) == trained
    evaluator = population.evaluator()
    evaluation = population.evaluation("north", "south")
    assert list(map(id, evaluator.histories)) == [id(one.history) for one in evaluation]
    assert evaluator.institutions.count("south") == len(population.evaluation("south"))


def test_an_institution_without_evaluation_learners_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(DataError, match="institution school-1 has 1 train and 0 evaluation"):
        populate(make_config(data=schools(100, 1)))
    with pytest.raises(DataError, match="no learner of 'synthetic' evaluates"):
        populate(make_config(evaluation={"fold": 1}))


def test_published_folds_and_schools_of_a_public_data_set_are_used(
    make_config: MakeConfig,
) -> None:
    try:
        data_directory()
    except DataError as error:
        pytest.skip(str(error))
    config = make_config(
        data={"source": "assistments2017"},
        partition={"by": "institution", "without_institution": "drop"},
        evaluation={"fold": 5},
    )
    population = populate(config)
    assert list(population.institutions) == [f"school-{number}" for number in range(1, 5)]
    for name in population.institutions:
        assert {one.fold for one in population.evaluation(name)} == {5}
        assert 5 not in {one.fold for one in population.train(name)}
    everybody = read_data(PublicData(source="assistments2017"), seed=1)
    assert len(everybody.learners) > sum(map(len, population.institutions.values()))


def test_a_researchers_own_table_is_a_source(tmp_path: Path, make_config: MakeConfig) -> None:
    rows = [f"{who},p{who % 3},{who % 2},s,{('east', 'west')[who % 2]}" for who in range(60)]
    (tmp_path / "interactions.csv").write_text("\n".join(["who,item,ok,skill,school", *rows]))
    columns = {"learner": "who", "item": "item", "correct": "ok", "skill": "skill"}
    (tmp_path / "columns.json").write_text(json.dumps({**columns, "institution": "school"}))
    config = make_config(data={"source": "table", "directory": str(tmp_path)})
    assert {name: len(own) for name, own in populate(config).institutions.items()} == {
        "east": 30,
        "west": 30,
    }
