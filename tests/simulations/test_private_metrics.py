"""Simulated nodes release metrics of their evaluation learners, within these learners' budget."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cloister_shared.errors import ConfigError
from cloister_shared.privacy.budget import Budget
from cloister_simulations.arms import ArmRunner
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.plans import check_budget, make_plan
from cloister_simulations.population import populate
from cloister_simulations.progress import Silent
from cloister_simulations.result import Arm, SimulationResult

MakeConfig = Callable[..., SimulationConfig]
PRIVACY: dict[str, Any] = {
    "budget": {"epsilon": 8.0, "delta": 1e-5},
    "noise": "keyed",
    "metrics": {"every_rounds": 4, "bins": 5},
}
SHARE = {"share": 0.5}
"""Enough evaluation learners for a figure."""


def run(config: SimulationConfig, directory: Path) -> SimulationResult:
    return run_simulation(config, directory, Silent(), "cloister simulate")


def released(arm: Arm) -> dict[int, dict[str, object]]:
    return {one.round: one.private_metrics for one in arm.rounds if one.private_metrics}


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> SimulationConfig:
    arms = ["federated", "federated_non_private", "pooled_private"]
    return make_config(privacy=PRIVACY, evaluation=SHARE, arms=arms)


@pytest.fixture(scope="module")
def result(config: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return run(config, tmp_path_factory.mktemp("run"))


def test_arms_with_noise_release_metrics_after_the_rounds_of_the_plan_and_no_others(
    result: SimulationResult,
) -> None:
    rounds = {arm.name: list(released(arm)) for arm in result.arms}
    assert rounds == {"federated": [4, 6], "federated_non_private": [], "pooled_private": [4, 6]}


def test_private_figures_stand_beside_exact_ones_and_are_near_them(
    result: SimulationResult,
) -> None:
    """So few learners give a rough figure, if any: off by its noise and by other weights."""
    pairs = [
        (private, one.metrics["dkt"]["auc"])
        for arm in result.arms
        for one in arm.rounds
        if (private := one.private_metrics.get("dkt", {}).get("auc")) is not None
    ]
    assert pairs
    for private, exact in pairs:
        assert exact is not None
        assert abs(private.value - exact) < 4 * private.noise_deviation + 0.1


def test_metrics_spend_the_evaluation_learners_budget_and_leave_that_of_training_alone(
    result: SimulationResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    without = run(make_config(evaluation=SHARE), tmp_path)
    for node, plain in zip(result.nodes, without.nodes, strict=True):
        train, evaluation = sorted(node.spend, key=lambda one: one.role, reverse=True)
        assert (train,) == plain.spend
        assert evaluation.role == "evaluation"
        assert 4.0 < (evaluation.epsilon_rdp or 0) < 8.0, (
            "of three releases paid for, two were made"
        )


def test_metrics_change_nothing_in_training(
    result: SimulationResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    without = run(make_config(evaluation=SHARE), tmp_path)
    assert without.arms[0].final == result.arms[0].final


def test_on_disk_the_same_is_released(
    result: SimulationResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    on_disk = run(make_config(privacy=PRIVACY, evaluation=SHARE, storage="disk"), tmp_path)
    assert released(on_disk.arms[0]) == released(result.arms[0])
    assert on_disk.nodes == result.nodes


GROUPS = {"groups": [{"name": "A", "share": 0.6}, {"name": "B", "share": 0.3}]}
BY_GROUP = {**PRIVACY, "metrics": {**PRIVACY["metrics"], "groups": ["A", "C"]}}


@pytest.fixture(scope="module")
def grouped(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> SimulationConfig:
    config = make_config(privacy=BY_GROUP, evaluation=SHARE, arms=["federated"])
    document = config.model_dump(mode="json")
    document["data"]["generator"].update(GROUPS)
    return SimulationConfig.model_validate(document)


def test_figures_by_group_stand_beside_exact_ones(
    grouped: SimulationConfig, tmp_path: Path
) -> None:
    """Learners of a group that the plan does not name are the others.

    So few learners need a budget that protects nobody.
    """
    generous = grouped.privacy.model_copy(update={"budget": Budget(epsilon=100, delta=1e-5)})
    (arm,) = run(grouped.model_copy(update={"privacy": generous}), tmp_path).arms
    groups = arm.rounds[-1].private_breakdowns["dkt"].groups
    assert list(groups) == ["A", "C", "other"]
    assert groups["C"]["auc"] is None, "nobody is in it"
    assert arm.final["dkt"].by_group.keys() == {"A", "B", "other"}
    private, exact = groups["A"]["auc"], arm.final["dkt"].by_group["A"]["auc"]
    assert private is not None
    assert exact is not None
    assert abs(private.value - exact) < 4 * private.noise_deviation + 0.1


def test_groups_change_nothing_in_training_and_nothing_of_what_is_spent(
    grouped: SimulationConfig, result: SimulationResult, tmp_path: Path
) -> None:
    by_group = run(grouped, tmp_path)
    assert by_group.arms[0].final["dkt"].all == result.arms[0].final["dkt"].all
    assert by_group.nodes == result.nodes


def test_on_disk_the_same_is_released_by_group(grouped: SimulationConfig, tmp_path: Path) -> None:
    on_disk = grouped.model_copy(update={"storage": "disk"})
    arms = [run(config, tmp_path / config.storage).arms[0] for config in (grouped, on_disk)]
    assert arms[0].rounds[-1].private_breakdowns == arms[1].rounds[-1].private_breakdowns


def test_an_interrupted_arm_releases_its_metrics_once(
    config: SimulationConfig, result: SimulationResult, tmp_path: Path
) -> None:
    population = populate(config)
    weights = {
        model.spec.kind: model.spec.initial_weights(population.curriculum, config.seed)
        for model in make_plan(
            config, "x", population.curriculum, population.declared_sizes, private=True
        ).models
    }

    class Stop(Silent):
        def reach(self, step: int) -> None:
            if step == 5:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        ArmRunner(config, population, weights, tmp_path, Stop()).run("federated")
    arm, nodes = ArmRunner(config, population, weights, tmp_path, Silent()).run("federated")
    assert released(arm) == released(result.arms[0])
    for name in nodes.names:
        kinds = [entry.kind for entry in nodes.node(name).ledger.export().entries]
        assert (kinds.count("COMMIT"), kinds.count("METRIC")) == (6, 2)


def test_noise_is_calibrated_to_all_releases_of_all_models(make_config: MakeConfig) -> None:
    config = make_config(privacy=PRIVACY)
    population = populate(config)
    plan = make_plan(config, "x", population.curriculum, population.declared_sizes, private=True)
    assert plan.metrics is not None
    budget = config.privacy.budget
    budget.require(plan.events_by_round("evaluation") * 3, 2 * budget.limit)
    assert plan.metrics.noise_multiplier == budget.calibrate(1.0, 1, 3)


def test_metrics_that_the_budget_cannot_pay_for_are_refused_before_data_is_read(
    make_config: MakeConfig,
) -> None:
    tiny = {**PRIVACY, "metrics": {"every_rounds": 1, "budget_share": 1e-9}}
    with pytest.raises(ConfigError, match="no noise multiplier"):
        check_budget(make_config(privacy=tiny))


def test_metrics_and_held_out_predictions_do_not_go_together(make_config: MakeConfig) -> None:
    with pytest.raises(ValidationError, match="private metrics count all predictions"):
        make_config(privacy=PRIVACY, evaluation={"share": 0.25, "predictions": "last"})
