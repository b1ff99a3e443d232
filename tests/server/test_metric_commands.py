"""``cloister coordinator metrics``: what an operator sees of the nodes' evaluation learners."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloister_server.checkpoint import MetricRecord, RunState, save_checkpoint
from cloister_server.commands import app
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.figures import ABOVE_ALL, Breakdown, PrivateFigure


def figure(value: float) -> PrivateFigure:
    return PrivateFigure(value=value, noise_deviation=0.0321)


@pytest.fixture
def checkpoint(tmp_path: Path, plan: Plan, weights: dict[str, Weights]) -> Path:
    groups = {
        "A": {"auc": figure(0.71), "auc" + ABOVE_ALL: figure(-0.04)},
        "other": {"auc": None, "auc" + ABOVE_ALL: None},
    }
    record = MetricRecord(
        round=3,
        participants=("north",),
        rejected={},
        figures={"dkt": {"auc": figure(0.75)}},
        breakdowns={"dkt": Breakdown(groups=groups, bins=(None, figure(0.9)))},
    )
    path = tmp_path / "autumn.checkpoint"
    save_checkpoint(path, RunState(plan, weights, 3, metrics=[record]))
    return path


def test_figures_stand_with_their_noise_and_groups_with_their_difference(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["metrics", str(checkpoint)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in result.output.splitlines()
        if "│" in line
    ]
    assert rows == [
        ["3", "dkt", "all", "auc", "0.7500", "0.0321", "–", "–"],
        ["3", "dkt", "A", "auc", "0.7100", "0.0321", "-0.0400", "0.0321"],
        ["3", "dkt", "other", "auc", "–", "–", "–", "–"],
    ]


def test_metrics_are_one_json_document_with_the_calibration_by_bin(checkpoint: Path) -> None:
    document = json.loads(CliRunner().invoke(app, ["metrics", str(checkpoint), "--json"]).output)
    (released,) = document["metrics"]
    assert released["figures"]["dkt"]["auc"]["value"] == 0.75
    bins = released["breakdowns"]["dkt"]["bins"]
    assert bins == [None, {"value": 0.9, "noise_deviation": 0.0321}]


def test_a_run_without_metrics_has_none(tmp_path: Path, plan: Plan, weights) -> None:
    path = tmp_path / "autumn.checkpoint"
    save_checkpoint(path, RunState(plan, weights, 1))
    document = json.loads(CliRunner().invoke(app, ["metrics", str(path), "--json"]).output)
    assert document["metrics"] == []


def test_a_missing_checkpoint_is_a_config_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["metrics", str(tmp_path / "none")])
    assert isinstance(result.exception, ConfigError)
