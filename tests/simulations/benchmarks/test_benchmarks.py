"""Benchmarks run, name their figures as documented, and are never judged by time here."""

import json
from pathlib import Path

from typer.testing import CliRunner

from cloister_simulations.benchmarks import accounting
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
