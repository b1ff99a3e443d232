"""Backups, old copies and the coordinator's word, over whole runs and the real commands."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.system.consortium import NAMES, make_home, make_run
from tests.system.simulated import CLOISTER, start

from cloister_client.app import HOME_KEY, app
from cloister_server.app import RUN_KEY, run_from_context
from cloister_server.checkpoint import RunState, read_checkpoint, save_checkpoint
from cloister_server.flower import make_server_app
from cloister_shared.errors import RunError
from cloister_simulations.backend.in_process import run_in_process


def work(directory: Path, run: str) -> None:
    """Do what is left of a run; what stopped it goes into a file."""
    homes = {number: {HOME_KEY: str(directory / name)} for number, name in enumerate(NAMES, 1)}
    config = {RUN_KEY: str(directory / f"{run}.checkpoint")}
    try:
        run_in_process(make_server_app(run_from_context), app, homes, config)
    except RunError as error:
        (directory / "stopped").write_text(str(error))


def do(directory: Path, run: str) -> str:
    """A run in a process of its own: what stopped it, or nothing."""
    stopped, checkpoint = directory / "stopped", directory / f"{run}.checkpoint"
    stopped.unlink(missing_ok=True)
    if not checkpoint.exists():
        first = read_checkpoint(directory / "first.checkpoint")
        plan = first.plan.model_copy(update={"run": run})
        save_checkpoint(checkpoint, RunState(plan, first.weights))
    process = start(work, directory, run)
    process.join(120)
    assert process.exitcode == 0
    return stopped.read_text() if stopped.exists() else ""


def cloister(*arguments: str | Path) -> dict:
    """What the command says, as JSON."""
    command = [str(CLOISTER), *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(result.stdout)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two homes, and a first run of which many fit the budget, done."""
    for name in NAMES:
        make_home(tmp_path / name)
    checkpoint = make_run(tmp_path)
    state = read_checkpoint(checkpoint)
    (model,) = state.plan.models
    quiet = model.mechanism.model_copy(
        update={"noise_multiplier": 4 * model.mechanism.noise_multiplier}
    )
    plan = state.plan.model_copy(
        update={"models": (model.model_copy(update={"mechanism": quiet}),)}
    )
    save_checkpoint(checkpoint, RunState(plan, state.weights))
    assert do(tmp_path, "first") == ""
    return tmp_path


def test_a_node_whose_disk_died_is_restored_and_goes_on_where_it_was(directory: Path) -> None:
    home, backup = directory / "oak", directory / "oak.backup"
    before = cloister("node", "budget", home)
    assert cloister("node", "backup", home, backup)["ledger_entries"] == 9
    shutil.rmtree(home)
    assert cloister("node", "restore", backup, home)["counts_as_spent"]
    spent = cloister("node", "budget", home)
    assert spent["restored"]
    assert {group["remaining_micro_rdp"] for group in spent["groups"]} == {0}
    assert "refused: restored" in do(directory, "second")
    assert do(directory, "second") == ""
    after = cloister("node", "budget", home)
    assert not after["restored"]
    assert [group["spent_micro_rdp"] for group in after["groups"]] == [
        2 * group["spent_micro_rdp"] for group in before["groups"]
    ]
    cloister("node", "export-ledger", home, directory / "export.json")
    assert cloister("audit", "ledger", directory / "export.json")["groups"] == after["groups"]


def test_a_backup_from_before_the_last_run_never_releases_anything_again(directory: Path) -> None:
    home, backup = directory / "oak", directory / "oak.backup"
    cloister("node", "backup", home, backup)
    assert do(directory, "second") == ""
    shutil.rmtree(home)
    cloister("node", "restore", backup, home)
    for _ in range(3):
        assert "refused: restored" in do(directory, "third")
    assert cloister("node", "budget", home)["restored"]


def test_a_file_that_was_put_back_by_hand_is_refused(directory: Path) -> None:
    ledger, kept = directory / "oak" / "ledger.sqlite", directory / "kept.sqlite"
    shutil.copyfile(ledger, kept)
    assert do(directory, "second") == ""
    shutil.copyfile(kept, ledger)
    assert "refused: ledger_old" in do(directory, "third")
