"""SIGKILL with secret noise: nothing is counted twice, nothing is forgotten, the run finishes."""

import random
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.system.mortal import Death, initial_weights, plan_of, replies, train
from tests.system.simulated import checkpoint, config, document, rounds_done, simulate, start

from cloister_client.home import NodeHome
from cloister_server.aggregation import OptimizerState, apply_mean, weighted_mean
from cloister_server.checkpoint import read_checkpoint
from cloister_server.notary import Notary
from cloister_server.validation import accept
from cloister_shared.model_specs import Weights
from cloister_shared.privacy import LedgerExport, verify_ledger
from cloister_simulations.config import SimulationConfig
from cloister_simulations.population import populate

NODES = ("north", "south")
KILLS = 6


def settings(
    rounds: int, noise_multiplier: float | None, spare_rounds: int = 1
) -> SimulationConfig:
    """Secret noise at nodes on disk; None spends the whole budget, but for the spare rounds."""
    sections = document(storage="disk")
    sections["privacy"].update(noise="system", spare_rounds=spare_rounds)
    sections["models"][0]["private"].update(rounds=rounds, noise_multiplier=noise_multiplier)
    return config(**sections)


def ledgers(directory: Path) -> dict[str, LedgerExport]:
    exports = {}
    for name in NODES:
        ledger = NodeHome.open(directory / "nodes" / name).ledger()
        exports[name] = ledger.export()
        ledger.close()
    return exports


def entries(export: LedgerExport, kind: str) -> Counter[int]:
    """How many entries of a kind each round has."""
    of_kind = [one for one in export.entries if one.kind == kind]
    charged = [one if kind == "RESERVE" else export.entries[one.of] for one in of_kind]
    return Counter(one.charge.round for one in charged)


def replayed(directory: Path, chosen: SimulationConfig) -> Weights:
    """The weights to which every round's replies lead, each counted once."""
    population = populate(chosen)
    plan, optimizer = plan_of(chosen, population), OptimizerState()
    weights = initial_weights(plan, population)["dkt"]
    (model,) = plan.models
    notary = Notary.passing()
    for number in range(1, plan.rounds + 1):
        bodies = {name: replies(directory, name, number)[0] for name in NODES}
        deltas = {
            name: accept(body, plan, number, notary)[1]["dkt"] for name, body in bodies.items()
        }
        mean = weighted_mean(deltas, plan.declared_sizes)
        weights = apply_mean(weights, mean, model, number, optimizer)
    return weights


def die(chosen: SimulationConfig, directory: Path, death: Death) -> None:
    process = start(train, chosen, directory, death)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert rounds_done(directory) == death.round - 1


@pytest.mark.parametrize("node", NODES)
def test_a_reply_that_was_committed_and_not_received_is_sent_again_and_counted_once(
    tmp_path: Path, node: str
) -> None:
    chosen = settings(rounds=5, noise_multiplier=None)
    die(chosen, tmp_path, Death(node, 3, "replying"))
    assert entries(ledgers(tmp_path)[node], "COMMIT")[3] == 1
    train(chosen, tmp_path)

    first, again = replies(tmp_path, node, 3)
    assert again == first, "secret noise, so other bytes would be a second release"
    final = read_checkpoint(checkpoint(tmp_path)).weights["dkt"]
    for name, array in replayed(tmp_path, chosen).items():
        assert np.array_equal(final[name], array)
    for export in ledgers(tmp_path).values():
        assert entries(export, "RESERVE") == dict.fromkeys(range(1, 6), 1), "a retry costs nothing"


def test_a_node_killed_while_reading_pays_twice_and_sits_out_what_it_cannot_pay(
    tmp_path: Path,
) -> None:
    chosen = settings(rounds=5, noise_multiplier=None, spare_rounds=0)
    die(chosen, tmp_path, Death("north", 2, "reading"))
    assert entries(ledgers(tmp_path)["north"], "COMMIT")[2] == 0
    train(chosen, tmp_path)

    north, south = ledgers(tmp_path).values()
    assert entries(north, "RESERVE") == {1: 1, 2: 2, 3: 1, 4: 1}
    assert entries(south, "RESERVE") == dict.fromkeys(range(1, 6), 1)
    last = read_checkpoint(checkpoint(tmp_path)).records[-1]
    assert (last.round, last.participants, last.rejected) == (
        5,
        ("south",),
        {"north": "refused: budget"},
    )
    for export in (north, south):
        verify_ledger(export)


def test_the_spare_round_pays_for_one_crash(tmp_path: Path) -> None:
    chosen = settings(rounds=3, noise_multiplier=None)
    die(chosen, tmp_path, Death("north", 2, "reading"))
    train(chosen, tmp_path)
    assert entries(ledgers(tmp_path)["north"], "RESERVE") == {1: 1, 2: 2, 3: 1}
    records = read_checkpoint(checkpoint(tmp_path)).records
    assert [record.participants for record in records] == [NODES] * 3


def test_killed_again_and_again_a_run_finishes_and_pays_for_all_that_was_received(
    tmp_path: Path,
) -> None:
    chosen = settings(rounds=40, noise_multiplier=10.0)
    moments = random.Random(7)  # noqa: S311
    kills = 0
    for _ in range(KILLS):
        process = start(simulate, chosen, tmp_path)
        process.join(moments.uniform(0.2, 1.2))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        check_books(tmp_path, chosen, kills)
    simulate(chosen, tmp_path)
    check_books(tmp_path, chosen, kills)
    assert kills > 0
    state = read_checkpoint(checkpoint(tmp_path))
    assert [one.round for one in state.records] == list(range(1, 41))
    assert {one.participants for one in state.records} == {NODES}
    for export in ledgers(tmp_path).values():
        assert entries(export, "COMMIT") == dict.fromkeys(range(1, 41), 1)


def check_books(directory: Path, chosen: SimulationConfig, kills: int) -> None:
    """What the coordinator received was charged, and no more than one attempt a kill was lost."""
    if not checkpoint(directory).exists():
        return
    received = read_checkpoint(checkpoint(directory)).records
    lost = 0
    for name, export in ledgers(directory).items():
        spent = verify_ledger(export)["train", "all"].micro or 0
        prices = [one.cost or 0 for one in export.entries if one.kind == "RESERVE"]
        counted = {one.round for one in received if name in one.participants}
        assert counted <= entries(export, "COMMIT").keys()
        assert sum(prices) == spent >= len(counted) * prices[0]
        lost += len(prices) - entries(export, "COMMIT").total()
    assert lost <= kills
