"""A consortium of processes, before any process is there."""

from pathlib import Path

import pytest
from tests.system.simulated import config
from typer.testing import CliRunner

from cloister_server.orders import make_plan as ordered_plan
from cloister_shared.errors import ConfigError
from cloister_simulations.plans import make_plan
from cloister_simulations.poc.commands import app
from cloister_simulations.poc.consortium import Consortium
from cloister_simulations.poc.processes import COORDINATOR, members, remove
from cloister_simulations.poc.training import RUN, order_of
from cloister_simulations.population import populate

SYSTEM = {"budget": {"epsilon": 8.0, "delta": 1e-5}}
DEPLOYABLE = config(storage="disk", privacy=SYSTEM)


def test_what_is_ordered_is_the_plan_of_the_simulated_arm() -> None:
    population = populate(DEPLOYABLE)
    sizes = population.declared_sizes
    order = order_of(DEPLOYABLE, len(sizes))
    simulated = make_plan(DEPLOYABLE, RUN, population.curriculum, sizes, private=True)
    assert ordered_plan(order, population.curriculum, sizes) == simulated


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (config(storage="memory", privacy=SYSTEM), "storage: disk"),
        (config(storage="disk", privacy=SYSTEM, arms=["pooled"]), "federated arm"),
        (config(storage="disk"), "noise: system"),
    ],
)
def test_what_no_real_node_would_do_is_refused_before_anything_is_made(
    settings: object, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Consortium.claim(tmp_path / "work", settings)  # type: ignore[arg-type]
    assert not (tmp_path / "work").exists()


def test_the_nodes_of_a_simulation_are_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "oak").mkdir(parents=True)
    with pytest.raises(ConfigError, match="belong to no coordinator"):
        Consortium.claim(tmp_path, DEPLOYABLE)


def test_a_folder_is_for_one_consortium(tmp_path: Path) -> None:
    Consortium.claim(tmp_path, DEPLOYABLE)
    with pytest.raises(ConfigError, match="other settings"):
        Consortium.claim(tmp_path, DEPLOYABLE.model_copy(update={"seed": 99}))


def test_nodes_have_the_usual_policy_with_the_budget_of_the_file(tmp_path: Path) -> None:
    home = Consortium.claim(tmp_path, DEPLOYABLE).school("north")
    assert home.config.policy.budget == DEPLOYABLE.privacy.budget
    assert not home.config.policy.allow_without_guarantee
    assert home.config.policy.min_noise_multiplier > 0
    with home.store() as store:
        assert store.counts().learners == 60


@pytest.mark.parametrize("command", ["status", "down", "clean"])
def test_a_folder_without_a_consortium_is_left_alone(command: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(app, [command, str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert (tmp_path / "thesis.txt").exists()


def test_cleaning_removes_the_consortium_and_nothing_else(tmp_path: Path) -> None:
    consortium = Consortium.claim(tmp_path, DEPLOYABLE)
    consortium.coordinator()
    (tmp_path / "report.html").write_text("kept")
    assert COORDINATOR in members(tmp_path)
    remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
