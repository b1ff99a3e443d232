"""The arms: the same round loop over differently grouped learners, resumed where it stopped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloister_server.checkpoint import RunState, read_checkpoint
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import Weights
from cloister_shared.privacy import verify_ledger
from cloister_simulations.arms import POOL, ArmRunner
from cloister_simulations.config import SimulationConfig
from cloister_simulations.nodes import DiskNodes, MemoryNodes
from cloister_simulations.plans import make_spec
from cloister_simulations.population import populate
from cloister_simulations.progress import Silent
from cloister_simulations.result import Arm

MakeConfig = Callable[..., SimulationConfig]
MakeRunner = Callable[..., ArmRunner]


@pytest.fixture(scope="module")
def make_runner(make_config: MakeConfig) -> MakeRunner:
    def make(directory: Path, **sections: object) -> ArmRunner:
        config = make_config(**sections)
        population = populate(config)
        spec = make_spec(config.models[0], population.curriculum)
        initial = {"dkt": spec.initial_weights(population.curriculum, config.seed)}
        return ArmRunner(config, population, initial, directory, Silent())

    return make


@pytest.fixture(scope="module")
def runner(make_runner: MakeRunner, tmp_path_factory: pytest.TempPathFactory) -> ArmRunner:
    return make_runner(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def federated(runner: ArmRunner) -> Arm:
    return runner.run("federated")[0]


def state(runner: ArmRunner, arm: str) -> RunState:
    return read_checkpoint(runner.directory / arm / f"{arm}.checkpoint")


def equal(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one | other)


def test_rounds_show_their_figures_where_a_look_is_due(federated: Arm) -> None:
    assert [one.round for one in federated.rounds] == [1, 2, 3, 4, 5, 6]
    assert [one.round for one in federated.rounds if one.metrics] == [3, 6]
    assert federated.rounds[-1].metrics["dkt"] == federated.final["dkt"].all
    assert {one.participants for one in federated.rounds} == {("north", "south")}
    assert all(one.bytes_up > 0 < one.bytes_down for one in federated.rounds)


def test_storage_on_disk_changes_nothing_but_the_place(
    runner: ArmRunner, federated: Arm, make_runner: MakeRunner, tmp_path: Path
) -> None:
    on_disk = make_runner(tmp_path, storage="disk")
    arm, nodes = on_disk.run("federated")
    assert isinstance(nodes, DiskNodes)
    assert arm.final == federated.final
    assert equal(
        state(on_disk, "federated").weights["dkt"], state(runner, "federated").weights["dkt"]
    )
    with nodes.home("north").store() as store:
        kept = store.active_model("dkt")
    assert kept is not None
    assert equal(kept.weights, state(runner, "federated").weights["dkt"])


def test_institutions_trained_together_learn_what_they_learn_one_by_one(
    make_runner: MakeRunner, tmp_path: Path
) -> None:
    """Only rounding and, in windows and negatives, chance may differ."""
    apart, together = (
        make_runner(tmp_path / str(flag), together=flag).run("federated_non_private")[0]
        for flag in (False, True)
    )
    assert together.rounds[-1].participants == ("fleet",)
    for kind in apart.final:
        for name, figure in apart.final[kind].all.items():
            assert together.final[kind].all[name] == pytest.approx(figure, abs=0.05)


def test_a_pooled_arm_has_one_node_with_everybody(runner: ArmRunner) -> None:
    plan, nodes = runner.plan("pooled"), runner.nodes("pooled")
    assert plan.declared_sizes == {POOL: sum(runner.population.declared_sizes.values())}
    assert nodes.names == [POOL]
    everybody = runner.population.train("north", "south")
    assert len(nodes.node(POOL).source.learners("train")) == len(everybody)


def test_only_the_private_arms_add_noise_and_keep_to_the_budget(runner: ArmRunner) -> None:
    for arm, private in (("federated", True), ("pooled_private", True), ("pooled", False)):
        assert runner.plan(arm).is_private == private  # type: ignore[arg-type]
        node = runner.nodes(arm).node(runner.nodes(arm).names[0])  # type: ignore[arg-type]
        assert node.ledger.header.enforced == private


def test_every_institution_alone_is_judged_by_its_own_model(runner: ArmRunner) -> None:
    arm, _ = runner.run("local_only")
    assert (arm.rounds, arm.private) == ((), False)
    assert arm.final["dkt"].by_institution.keys() == {"north", "south"}
    models = [state(runner, f"local_only.{number}").weights["dkt"] for number in (1, 2)]
    assert not equal(*models)


def test_a_finished_arm_is_not_trained_again(runner: ArmRunner, federated: Arm) -> None:
    arm, nodes = runner.run("federated")
    assert arm.rounds == federated.rounds, "the same seconds: nothing was done anew"
    assert arm.final == federated.final
    assert isinstance(nodes, MemoryNodes)
    spend = verify_ledger(nodes.node("north").ledger.export())
    assert [one.event.steps for one in spend["train", "all"].events] == [6]  # type: ignore[union-attr]


def test_figures_lost_with_the_process_are_made_again(runner: ArmRunner, federated: Arm) -> None:
    log = runner.directory / "federated" / "metrics.jsonl"
    first = log.read_text("utf-8").splitlines(keepends=True)[0]
    log.write_text(first)  # killed between the last checkpoint and its figures
    arm, _ = runner.run("federated")
    assert arm.rounds == federated.rounds


def test_a_checkpoint_of_another_plan_is_refused(
    runner: ArmRunner, federated: Arm, make_runner: MakeRunner
) -> None:
    other = make_runner(runner.directory, quorum_share=1.0)
    with pytest.raises(ConfigError, match="is of another plan"):
        other.run("federated")
    assert runner.run("federated")[0].rounds == federated.rounds
