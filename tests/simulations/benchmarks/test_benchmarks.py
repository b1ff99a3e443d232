"""Benchmarks run, name their figures as documented, and are never judged by time here."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloister_shared.errors import ConfigError
from cloister_simulations.benchmarks import accounting, ledger
from cloister_simulations.benchmarks.commands import app
from cloister_simulations.benchmarks.harness import interleaved


def test_contenders_take_turns_after_one_warm_up_each() -> None:
    calls: list[str] = []
    interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert "".join(calls) == "ab" + "abab"


def test_the_command_writes_the_figures_by_name(tmp_path: Path) -> None:
    path = tmp_path / "noise.json"
    outcome = CliRunner().invoke(app, ["noise", "--repeats", "1", "--json", str(path)])
    assert outcome.exit_code == 0
    assert json.loads(path.read_text())["figures"].keys() == {
        "noise_ms_per_100k",
        "discrete_noise_ms_per_100k",
        "noise_over_numpy",
    }


def test_accounting_answers_every_question_in_a_process_of_its_own() -> None:
    figures = accounting.run(repeats=1).figures
    assert figures.keys() == {"calibrate_ms", "rounds_fit_ms", "rdp_report_ms", "pld_s"}
    assert all(figure is not None and figure > 0 for figure in figures.values())


def test_a_ledger_is_filled_measured_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ledger, "file_system", lambda folder: "ext4")
    result = ledger.run(entries=330, rounds=3, repeats=1)
    assert result.figures.keys() == {
        "reserve_ms",
        "reserve_p99_ms",
        "commit_ms",
        "budget_ms",
        "budget_command_ms",
        "chain_entries_per_s",
        "audit_entries_per_s",
        "signatures_per_s",
    }
    assert all(figure is not None and figure > 0 for figure in result.figures.values())
    assert result.rows[0]["entries"] == 330
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_memory_is_not_measured_for_one_on_a_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108
    if not shared_memory.exists() or ledger.file_system(shared_memory) != "tmpfs":
        pytest.skip("no tmpfs at /dev/shm")
    monkeypatch.chdir(shared_memory)
    with pytest.raises(ConfigError, match="tmpfs"):
        ledger.run(entries=3, rounds=1, repeats=1)
