"""``cloister coordinator``: what an operator sees of a run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloister_server.checkpoint import RoundRecord, RunState, save_checkpoint
from cloister_server.commands import app
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan


@pytest.fixture
def checkpoint(tmp_path: Path, plan: Plan, weights: dict[str, Weights]) -> Path:
    record = RoundRecord(
        round=1,
        seconds=1.5,
        bytes_down=1000,
        bytes_up=2000,
        participants=("north", "[/bold]south"),
        rejected={"west": "holds ['[/red]'] instead of this round's models"},
    )
    path = tmp_path / "autumn.checkpoint"
    save_checkpoint(path, RunState(plan, weights, 1, {}, [record]))
    return path


def test_rounds_are_shown_whatever_the_nodes_sent(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["rounds", str(checkpoint)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "1 of 4 rounds" in result.output
    assert "[/bold]south" in result.output
    assert "west: holds ['[/red]']" in result.output


def test_rounds_are_one_json_document(checkpoint: Path, plan: Plan) -> None:
    result = CliRunner().invoke(app, ["rounds", str(checkpoint), "--json"])
    document = json.loads(result.output)
    assert document["plan"] == plan.digest
    assert document["rounds"][0]["rejected"].keys() == {"west"}


def test_a_missing_checkpoint_is_a_config_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rounds", str(tmp_path / "none")])
    assert isinstance(result.exception, ConfigError)
