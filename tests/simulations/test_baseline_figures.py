"""Private baselines stand beside private arms only, and spend the share of their model."""

from collections.abc import Callable

import pytest

from cloister_shared.privacy import KeyedNoise, SystemNoise
from cloister_simulations.baseline_figures import asked_baselines, private_baseline_names
from cloister_simulations.baselines import BASELINES, PRIVATE_BASELINES
from cloister_simulations.config import SimulationConfig
from cloister_simulations.population import populate

MakeConfig = Callable[..., SimulationConfig]


@pytest.mark.parametrize(
    ("arms", "wanted", "run"),
    [
        (["federated"], True, True),
        (["pooled_private", "pooled"], True, True),
        (["pooled", "local_only"], True, False),
        (["federated"], False, False),
    ],
)
def test_private_baselines_run_beside_private_arms_only(
    make_config: MakeConfig, arms: list[str], wanted: bool, run: bool
) -> None:
    names = private_baseline_names(make_config(arms=arms, private_baselines=wanted))
    assert names == (tuple(PRIVATE_BASELINES["dkt"]) if run else ())


@pytest.mark.parametrize(("noise", "kind"), [("keyed", KeyedNoise), ("system", SystemNoise)])
def test_they_may_spend_what_the_model_may(make_config: MakeConfig, noise: str, kind: type) -> None:
    privacy = {"budget": {"epsilon": 3.0, "delta": 1e-5}, "noise": noise}
    config = make_config(private_baselines=True, privacy=privacy)
    population = populate(config)
    asked = asked_baselines(config, config.models[0], population)
    assert asked.keys() == PRIVATE_BASELINES["dkt"].keys()
    allowance = asked["dp_skill_rates"].keywords["allowance"]
    assert allowance.budget == config.privacy.budget
    assert allowance.share == config.models[0].budget_share
    assert allowance.learners == sum(population.declared_sizes.values())
    assert isinstance(allowance.noise, kind)


def test_both_sorts_can_be_asked_for(make_config: MakeConfig) -> None:
    config = make_config(baselines=True, private_baselines=True)
    asked = asked_baselines(config, config.models[0], populate(config))
    assert asked.keys() == BASELINES["dkt"].keys() | PRIVATE_BASELINES["dkt"].keys()
