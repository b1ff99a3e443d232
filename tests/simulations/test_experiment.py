"""A whole simulation in this process: every arm, baselines, spend, and the same result twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister_client.home import NodeHome
from cloister_shared.errors import BudgetExceededError, ConfigError, DataError
from cloister_shared.privacy import verify_ledger
from cloister_simulations.baselines import BASELINES, PRIVATE_BASELINES
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.progress import Silent
from cloister_simulations.result import SimulationResult

MakeConfig = Callable[..., SimulationConfig]
ARMS = ["federated", "federated_non_private", "local_only", "pooled", "pooled_private"]
OF_TIME = {"seconds", "created_at", "wall_clock_s", "command"}


def run(config: SimulationConfig, directory: Path) -> SimulationResult:
    return run_simulation(config, directory, Silent(), "cloister simulate tiny.yaml")


def timeless(document: Any) -> Any:
    """The document without what depends on the clock."""
    if isinstance(document, dict):
        return {key: timeless(one) for key, one in document.items() if key not in OF_TIME}
    return [timeless(one) for one in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> SimulationConfig:
    return make_config(arms=ARMS, baselines=True, private_baselines=True, storage="disk")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulation") / "tiny"


@pytest.fixture(scope="module")
def result(config: SimulationConfig, directory: Path) -> SimulationResult:
    return run(config, directory)


def test_the_result_is_a_valid_document(result: SimulationResult, config: SimulationConfig) -> None:
    read = SimulationResult.model_validate_json(result.model_dump_json())
    assert read == result
    assert SimulationConfig.model_validate(result.config) == config
    assert result.seeds == {"simulation": 3}
    assert {"torch", "opacus", "flwr", "python", "cpus"} <= result.machine.keys()


def test_every_arm_and_baseline_is_there(result: SimulationResult) -> None:
    assert [arm.name for arm in result.arms] == ARMS
    assert [arm.name for arm in result.arms if arm.private] == ["federated", "pooled_private"]
    for arm in result.arms:
        assert 0 < (arm.final["dkt"].all["auc"] or 0) < 1
        assert arm.final["dkt"].by_institution.keys() == {"north", "south"}
    known = {"initial_weights", *BASELINES["dkt"], *PRIVATE_BASELINES["dkt"]}
    assert result.baselines["dkt"].keys() == known
    assert result.private_baselines == tuple(PRIVATE_BASELINES["dkt"])
    assert result.baselines["dkt"]["majority"].all["auc"] == 0.5


def test_without_noise_and_sampling_federated_is_pooled(result: SimulationResult) -> None:
    arms = {arm.name: arm.final["dkt"].all for arm in result.arms}
    for name, pooled in arms["pooled"].items():
        assert arms["federated_non_private"][name] == pytest.approx(pooled, abs=1e-4)
    assert arms["federated"]["auc"] != pytest.approx(arms["pooled"]["auc"], abs=1e-4)


def test_the_reported_spend_is_that_of_the_nodes_ledgers(
    result: SimulationResult, directory: Path, config: SimulationConfig
) -> None:
    budget = config.privacy.budget
    for node in result.nodes:
        ledger = NodeHome.open(directory / "nodes" / node.name).ledger()
        ((role, cohort), spend), *others = verify_ledger(ledger.export()).items()
        ledger.close()
        (reported,) = node.spend
        assert (reported.role, reported.cohort, others) == (role, cohort, [])
        assert reported.epsilon_pld == spend.epsilon(budget.delta, "pld")
        assert reported.epsilon_rdp == spend.epsilon(budget.delta, "rdp", order=budget.order)
        assert 0 < (reported.epsilon_pld or 0) < (reported.epsilon_rdp or 0) <= budget.epsilon


def test_the_same_seed_gives_the_same_result(
    result: SimulationResult, config: SimulationConfig, tmp_path: Path
) -> None:
    again = run(config, tmp_path / "again")
    assert timeless(again.model_dump(mode="json")) == timeless(result.model_dump(mode="json"))


def test_another_seed_gives_another_result(
    result: SimulationResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    other = run(make_config(seed=4), tmp_path)
    assert other.arms[0].final != result.arms[0].final


def test_a_directory_belongs_to_the_data_that_it_was_made_for(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    table = tmp_path / "table"
    table.mkdir()
    rows = [f"{who},p{who % 3},{who % 2},s,{('east', 'west')[who % 2]}" for who in range(60)]
    (table / "interactions.csv").write_text("\n".join(["who,item,ok,skill,school", *rows]))
    columns = '{"learner": "who", "item": "item", "correct": "ok", "skill": "skill", '
    (table / "columns.json").write_text(columns + '"institution": "school"}')
    config = make_config(data={"source": "table", "directory": str(table)}, arms=["pooled"])
    run(config, tmp_path / "work")
    with (table / "interactions.csv").open("a") as file:
        file.write("\n61,p1,1,s,east\n")
    with pytest.raises(ConfigError, match="holds a simulation with other data"):
        run(config, tmp_path / "work")


def test_a_directory_belongs_to_the_settings_that_it_was_made_for(
    result: SimulationResult, config: SimulationConfig, directory: Path
) -> None:
    for change in ({"seed": 4}, {"evaluation": {"share": 0.5}}, {"storage": "memory"}):
        other = SimulationConfig.model_validate({**config.model_dump(mode="json"), **change})
        with pytest.raises(ConfigError, match="holds a simulation with other settings"):
            run(other, directory)


def test_arms_can_be_added_later_and_the_others_are_kept(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    first = run(make_config(arms=["pooled"]), tmp_path)
    more = run(make_config(arms=["pooled", "federated"]), tmp_path)
    assert more.arms[0].rounds == first.arms[0].rounds, "the same seconds: not trained again"
    assert more.arms[1].name == "federated"


def test_a_plan_beyond_the_budget_is_refused_before_data_is_looked_for(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISTER_DATA", str(tmp_path / "nowhere"))
    data = {"source": "assistments2017"}
    with pytest.raises(BudgetExceededError, match="at most 0 rounds would fit"):
        run(make_config({"noise_multiplier": 0.1}, data=data), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="set CLOISTER_DATA"):
        run(make_config(data=data), tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot keep work in .*file/out: Not a directory"):
        run(make_config(), tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("sections", "kind", "reason"),
    [
        ({"arms": ["pooled"]}, "none", "no federated arm"),
        ({}, "none", "the noise is reproducible"),
        (
            {"privacy": {"budget": {"epsilon": 8.0, "delta": 1e-5}, "noise": "system"}},
            "learner_level_dp",
            "whole history",
        ),
    ],
    ids=["pooled", "keyed", "system"],
)
def test_only_secret_noise_gives_a_guarantee(
    make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any], kind: str, reason: str
) -> None:
    result = run(make_config({"rounds": 2}, **sections), tmp_path)
    assert result.guarantee.kind == kind
    assert reason in result.guarantee.reason
    if kind == "learner_level_dp":
        again = run(make_config({"rounds": 2}, **sections), tmp_path.with_name("again"))
        assert again.arms[0].final != result.arms[0].final
