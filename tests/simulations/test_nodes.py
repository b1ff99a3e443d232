"""Simulated nodes: in memory or as homes on disk, resumable, and true to their learners' roles."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from cloister_client.home import NodeHome
from cloister_server.checkpoint import MetricRecord, RoundRecord, RunState
from cloister_shared.errors import ConfigError, LedgerError
from cloister_shared.plan import MetricPlan, Plan
from cloister_shared.privacy import verify_ledger
from cloister_shared.privacy.ledger_totals import SpendByGroup
from cloister_simulations.config import SimulationConfig
from cloister_simulations.nodes import (
    DiskNodes,
    MemoryNodes,
    keyed_noise,
    make_homes,
    node_configs,
    node_name,
    simulation_policy,
)
from cloister_simulations.plans import make_plan
from cloister_simulations.population import Population, populate

MakeConfig = Callable[..., SimulationConfig]


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> SimulationConfig:
    return make_config()


@pytest.fixture(scope="module")
def population(config: SimulationConfig) -> Population:
    return populate(config)


@pytest.fixture
def plan(config: SimulationConfig, population: Population) -> Plan:
    return make_plan(config, "run", population.curriculum, population.declared_sizes, private=True)


@pytest.fixture
def memory_nodes(config: SimulationConfig, population: Population) -> MemoryNodes:
    return MemoryNodes(
        curriculum=population.curriculum,
        sources={name: population.source(name) for name in population.institutions},
        declared_sizes=population.declared_sizes,
        budget=config.privacy.budget,
        seed=1,
        enforced=True,
    )


@pytest.fixture
def disk_nodes(tmp_path: Path, config: SimulationConfig, population: Population) -> DiskNodes:
    make_homes(tmp_path / "nodes", population, config.privacy.budget)
    return DiskNodes(tmp_path / "nodes", seed=1)


def spent(nodes: MemoryNodes | DiskNodes) -> dict[str, SpendByGroup]:
    return {name: verify_ledger(nodes.node(name).ledger.export()) for name in nodes.names}


def reached(
    plan: Plan, *participants: tuple[str, ...], measured: tuple[str, ...] | None = None
) -> RunState:
    """A run with these contributors to its rounds, and these to the metrics of the last."""
    records = [
        RoundRecord(
            round=number, seconds=0, bytes_down=0, bytes_up=0, participants=names, rejected={}
        )
        for number, names in enumerate(participants, start=1)
    ]
    last = len(records)
    metrics = (
        []
        if measured is None
        else [MetricRecord(round=last, participants=measured, rejected={}, figures={})]
    )
    return RunState(plan, {}, last, records=records, metrics=metrics)


def test_nodes_in_memory_and_on_disk_are_the_same_to_a_run(
    memory_nodes: MemoryNodes, disk_nodes: DiskNodes, plan: Plan
) -> None:
    assert node_configs(memory_nodes) == node_configs(disk_nodes)
    for name in ("north", "south"):
        kept, held = disk_nodes.node(name), memory_nodes.node(name)
        assert (kept.name, kept.declared_size) == (held.name, held.declared_size)
        assert len(kept.source.learners("train")) == len(held.source.learners("train"))
        for node in (kept, held):
            node.check_plan(plan)


def test_a_node_is_found_by_its_name_or_by_its_number_on_ray(memory_nodes: MemoryNodes) -> None:
    def name(config: dict[str, str | int]) -> str:
        return node_name(memory_nodes, Context(1, 1, dict(config), RecordDict(), {}))

    assert [name(dict(one)) for one in node_configs(memory_nodes).values()] == ["north", "south"]
    assert [name({"partition-id": number}) for number in (0, 1)] == ["north", "south"]


def test_keyed_noise_is_one_stream_for_each_node_run_round_and_model(plan: Plan) -> None:
    other = plan.model_copy(update={"run": "other"})
    streams = [
        keyed_noise(1, "north", plan, 1, "dkt"),
        keyed_noise(2, "north", plan, 1, "dkt"),
        keyed_noise(1, "south", plan, 1, "dkt"),
        keyed_noise(1, "north", other, 1, "dkt"),
        keyed_noise(1, "north", plan, 2, "dkt"),
        keyed_noise(1, "north", plan, 1, "recommender"),
    ]
    drawn = [bytes(stream.random_bytes(16)) for stream in streams]
    assert len(set(drawn)) == len(drawn)
    assert keyed_noise(1, "north", plan, 1, "dkt").random_bytes(16) == drawn[0]


def test_homes_keep_roles_and_what_is_there(
    disk_nodes: DiskNodes, config: SimulationConfig, population: Population
) -> None:
    before = disk_nodes.node("north").ledger.header.ledger
    make_homes(disk_nodes.directory, population, config.privacy.budget)
    for name in disk_nodes.names:
        with disk_nodes.home(name).store() as store:
            for purpose, role in (("train", population.train), ("evaluate", population.evaluation)):
                expected = {store.pseudonym(one.key) for one in role(name)}
                assert set(store.learners(purpose)) == expected  # type: ignore[arg-type]
    ledger = disk_nodes.home("north").ledger()
    assert ledger.header.ledger == before
    ledger.close()


def test_a_home_whose_making_was_cut_off_is_made_anew(
    tmp_path: Path, config: SimulationConfig, population: Population
) -> None:
    unfinished = tmp_path / "nodes" / ".north.unfinished"
    (unfinished / "keys").mkdir(parents=True)
    (unfinished / "node.yaml").write_text("name: no")
    make_homes(tmp_path / "nodes", population, config.privacy.budget)
    assert DiskNodes(tmp_path / "nodes", None).names == ["north", "south"]
    assert NodeHome.open(tmp_path / "nodes" / "north").config.name == "north"


def test_a_name_that_cannot_be_a_nodes_is_refused_before_anything_is_made(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config()
    document = config.model_dump(mode="json")
    document["data"]["generator"]["schools"][1]["name"] = "Sankt Süd"
    population = populate(SimulationConfig.model_validate(document))
    with pytest.raises(ConfigError, match="institution 'Sankt Süd' cannot be on disk: name"):
        make_homes(tmp_path / "nodes", population, config.privacy.budget)


def test_restored_ledgers_are_charged_for_every_round_of_every_node(
    memory_nodes: MemoryNodes, plan: Plan
) -> None:
    memory_nodes.restore(plan, reached(plan, ("north", "south"), ("north",)))
    (event,) = plan.charge_events(1)
    twice = event.event.model_copy(update={"steps": 2})
    for spend in spent(memory_nodes).values():
        (one,) = spend["train", "all"].events
        assert one.event == twice, "south's second reply was rejected; its data had been read"


def test_restored_ledgers_are_charged_for_metrics_too(
    memory_nodes: MemoryNodes, plan: Plan
) -> None:
    measured = plan.model_copy(update={"metrics": MetricPlan(every_rounds=2, noise_multiplier=9)})
    memory_nodes.restore(measured, reached(measured, ("north",), ("north",), measured=("north",)))
    for spend in spent(memory_nodes).values():
        assert spend["evaluation", "all"].events == measured.metric_events(2)


def test_a_home_that_knows_nothing_of_the_rounds_it_contributed_to_stops_the_run(
    disk_nodes: DiskNodes, plan: Plan
) -> None:
    disk_nodes.restore(plan, RunState(plan, {}))
    for state in (reached(plan, ("north",)), reached(plan, (), measured=("north",))):
        with pytest.raises(LedgerError, match=r"node north gave 1 contributions .* was replaced"):
            disk_nodes.restore(plan, state)


def test_copies_of_nodes_on_disk_carry_no_open_file_and_share_what_a_process_opened(
    disk_nodes: DiskNodes,
) -> None:
    opened = disk_nodes.node("north")
    copies = [pickle.loads(pickle.dumps(disk_nodes)) for _ in range(2)]  # noqa: S301
    assert copies[0].node("north") is copies[1].node("north")
    assert copies[0].node("north") is not opened
    assert copies[0].node("north").ledger.export() == opened.ledger.export()


@pytest.mark.parametrize("size", [1, 50, 700])
def test_a_simulations_policy_allows_all_but_exceeding_the_budget(
    config: SimulationConfig, size: int
) -> None:
    policy = simulation_policy(config.privacy.budget, size)
    assert policy.budget == config.privacy.budget
    assert policy.min_declared_size <= size
    assert policy.allow_without_guarantee
