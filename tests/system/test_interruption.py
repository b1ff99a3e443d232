"""Ctrl-C and SIGKILL: the same command again goes on, and ends as if nothing had happened."""

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.books import charges, committed, export_of
from tests.system.simulated import (
    CLOISTER,
    ROUNDS,
    await_rounds,
    await_that,
    checkpoint,
    command,
    config,
    document,
    release,
    rounds_done,
    simulate,
    start,
    told,
)

from cloister_server.checkpoint import read_checkpoint
from cloister_shared.privacy import LedgerExport, verify_ledger
from cloister_simulations.config import SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.progress import Silent
from cloister_simulations.result import SimulationResult

ENOUGH = 4
"""Rounds after which a run is interrupted."""
KILLS = 6


@pytest.fixture(scope="module")
def whole_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(whole_directory: Path) -> SimulationResult:
    """The result of a run that nothing interrupted."""
    return run_simulation(config(), whole_directory, Silent(), "test")


def resume(directory: Path, **sections: Any) -> SimulationResult:
    """Run to the end in this process; the rounds that were done must not be done again."""
    before = read_checkpoint(checkpoint(directory)).records
    assert ENOUGH <= len(before) < ROUNDS
    result = run_simulation(config(**sections), directory, Silent(), "test")
    _keeps(result, before)
    return result


def _keeps(result: SimulationResult, before: list[Any]) -> None:
    kept = [one.seconds for one in result.arms[0].rounds[: len(before)]]
    assert kept == [one.seconds for one in before], "a round done again takes another time"


def ledgers(directory: Path) -> dict[str, LedgerExport]:
    """Those of a simulation whose nodes are on disk, by name."""
    return {home.name: export_of(home) for home in sorted((directory / "nodes").iterdir())}


def test_ctrl_c_ends_the_command_with_130_and_the_same_command_resumes(
    tmp_path: Path, whole: SimulationResult, whole_directory: Path
) -> None:
    settings, out, work = tmp_path / "tiny.yaml", tmp_path / "result.json", tmp_path / "work"
    settings.write_text(yaml.safe_dump(document()))
    typed = [str(CLOISTER), "simulate", str(settings), "--json", str(out), "--work", str(work)]
    with subprocess.Popen(typed, stderr=subprocess.PIPE, text=True) as process:
        await_rounds(work, ENOUGH)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cloister: interrupted; run the same command again to resume" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    before = read_checkpoint(checkpoint(work)).records
    assert ENOUGH <= len(before) < ROUNDS

    again = subprocess.run(typed, capture_output=True, text=True, timeout=120, check=True)
    assert "report: " in again.stderr
    result = SimulationResult.model_validate_json(out.read_bytes())
    _keeps(result, before)
    assert told(result) == told(whole)
    assert release(work) == release(whole_directory)


def test_ctrl_c_charges_no_round_twice_at_nodes_on_disk(
    tmp_path: Path, whole: SimulationResult, whole_directory: Path
) -> None:
    settings, work = tmp_path / "tiny.yaml", tmp_path / "work"
    settings.write_text(yaml.safe_dump(document(storage="disk")))
    typed = ["simulate", str(settings), "--work", str(work), "--quiet"]
    process = start(command, tmp_path / "errors", *typed)
    await_rounds(work, ENOUGH)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert "run the same command again" in (tmp_path / "errors").read_text()

    result = resume(work, storage="disk")
    assert told(result) == told(whole)
    assert release(work) == release(whole_directory)
    for export in ledgers(work).values():
        assert charges(export) == dict.fromkeys(range(1, ROUNDS + 1), 1)


def test_a_second_ctrl_c_does_not_wait_for_the_round(tmp_path: Path) -> None:
    settings = document()
    settings["models"][0]["private"]["local"] = {"steps": 100_000, "learning_rate": 1e-4}
    path, work, errors = tmp_path / "slow.yaml", tmp_path / "work", tmp_path / "errors"
    path.write_text(yaml.safe_dump(settings))
    process = start(command, errors, "simulate", str(path), "--work", str(work), "--quiet")
    await_that((work / "federated").exists, "the first round")
    os.kill(process.pid or 0, signal.SIGINT)
    await_that(lambda: "Ctrl-C again" in errors.read_text(), "an answer to Ctrl-C")
    assert process.is_alive()
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    assert rounds_done(work) == 0


def test_a_killed_run_in_memory_ends_as_if_nothing_had_happened(
    tmp_path: Path, whole: SimulationResult, whole_directory: Path
) -> None:
    process = start(simulate, config(), tmp_path / "work")
    await_rounds(tmp_path / "work", ENOUGH)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert told(resume(tmp_path / "work")) == told(whole)
    assert release(tmp_path / "work") == release(whole_directory)


def test_killed_again_and_again_a_run_with_secret_noise_finishes_and_pays_for_all_received(
    tmp_path: Path,
) -> None:
    chosen = secretly_noised()
    moments = random.Random(7)  # noqa: S311
    kills = 0
    for _ in range(KILLS):
        process = start(simulate, chosen, tmp_path)
        process.join(moments.uniform(0.2, 1.2))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        check_books(tmp_path, kills)
    assert kills > 0
    simulate(chosen, tmp_path)
    check_books(tmp_path, kills)
    every = dict.fromkeys(range(1, ROUNDS + 1), 1)
    records = read_checkpoint(checkpoint(tmp_path)).records
    assert [one.round for one in records] == list(every)
    assert {one.participants for one in records} == {("north", "south")}
    for export in ledgers(tmp_path).values():
        assert dict.fromkeys(dict(committed(export)), 1) == every


def secretly_noised() -> SimulationConfig:
    """So little of the budget a round that many may be lost."""
    sections = document(storage="disk")
    sections["privacy"].update(noise="system", spare_rounds=1)
    sections["models"][0]["private"].update(noise_multiplier=10.0)
    return config(**sections)


def check_books(directory: Path, kills: int) -> None:
    """What the coordinator received was charged, and no more than one attempt a kill was lost."""
    if not checkpoint(directory).exists():
        return
    received = read_checkpoint(checkpoint(directory)).records
    lost = 0
    for name, export in ledgers(directory).items():
        spent = verify_ledger(export)["train", "all"].micro or 0
        price = next(one.cost or 0 for one in export.entries if one.kind == "RESERVE")
        counted = {one.round for one in received if name in one.participants}
        released = dict(committed(export))
        assert counted <= released.keys()
        assert spent == charges(export).total() * price >= len(counted) * price
        lost += charges(export).total() - len(released)
    assert lost <= kills
