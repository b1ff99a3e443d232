"""SIGKILL where metrics are made: charged anew or sent again, and training knows nothing of it."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from tests.system.mortal import Death, replies, train
from tests.system.simulated import checkpoint, config, document, rounds_done, start

from cloister_client.home import NodeHome
from cloister_server.checkpoint import read_checkpoint
from cloister_shared.privacy import verify_ledger
from cloister_simulations.config import SimulationConfig

NODES = ("north", "south")
ROUNDS, MEASURED = 4, 2


@pytest.fixture
def settings() -> SimulationConfig:
    """Four rounds with secret noise; metrics after the second and the last."""
    sections = document(storage="disk")
    sections["privacy"].update(noise="system", metrics={"every_rounds": MEASURED})
    sections["models"][0]["private"].update(rounds=ROUNDS)
    return config(**sections)


def die(settings: SimulationConfig, directory: Path, death: Death) -> None:
    process = start(train, settings, directory, death)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert rounds_done(directory) == death.round, "metrics come after the round's checkpoint"


def charged(directory: Path, node: str) -> dict[str, Counter[int]]:
    """How often each round was charged, by role."""
    ledger = NodeHome.open(directory / "nodes" / node).ledger()
    export = ledger.export()
    ledger.close()
    verify_ledger(export)
    charges = [entry.charge for entry in export.entries if entry.kind == "RESERVE"]
    return {
        role: Counter(charge.round for charge in charges if charge.role == role)
        for role in ("train", "evaluation")
    }


def check_finished(directory: Path) -> None:
    state = read_checkpoint(checkpoint(directory))
    assert [one.round for one in state.metrics] == [MEASURED, ROUNDS]
    assert {one.participants for one in state.metrics} == {NODES}
    assert all(one.figures for one in state.metrics)
    for node in NODES:
        assert charged(directory, node)["train"] == dict.fromkeys(range(1, ROUNDS + 1), 1)


@pytest.mark.parametrize("number", [MEASURED, ROUNDS])
def test_a_report_that_was_committed_and_not_received_is_sent_again_and_costs_nothing(
    tmp_path: Path, settings: SimulationConfig, number: int
) -> None:
    die(settings, tmp_path, Death("north", number, "reporting"))
    train(settings, tmp_path)
    first, again = replies(tmp_path, "north", number, "metrics")
    assert again == first, "secret noise, so other bytes would be a second release"
    assert charged(tmp_path, "north")["evaluation"] == {MEASURED: 1, ROUNDS: 1}
    check_finished(tmp_path)


def test_a_node_killed_while_it_reads_evaluation_learners_charges_them_again(
    tmp_path: Path, settings: SimulationConfig
) -> None:
    die(settings, tmp_path, Death("north", MEASURED, "measuring"))
    train(settings, tmp_path)
    assert charged(tmp_path, "north")["evaluation"] == {MEASURED: 2, ROUNDS: 1}
    check_finished(tmp_path)
