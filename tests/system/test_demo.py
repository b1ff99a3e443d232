"""The demo as a process: it trains, serves every school's node, asks each, and leaves nothing."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tests.system.simulated import CLOISTER, config, document

from cloister_shared.errors import ConfigError
from cloister_simulations.demo import run_demo

SCHOOLS = ("ash", "birch", "cedar")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Three schools, both models, four rounds."""
    chosen = document(storage="disk", evaluate_every_rounds=2)
    generator = chosen["data"]["generator"]
    generator["schools"] = [{"name": name, "learners": 40} for name in SCHOOLS]
    generator["items_per_skill"] = 20  # so that something is left to recommend
    (dkt,) = chosen["models"]
    training = {**dkt["private"], "rounds": 4}
    chosen["models"] = [
        {**dkt, "budget_share": 0.5, "private": training, "non_private": training},
        {
            "kind": "recommender",
            "spec": {"factors": 4},
            "budget_share": 0.5,
            "private": training,
            "non_private": training,
        },
    ]
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(chosen))
    return path


def test_the_demo_trains_asks_every_schools_node_and_stops_them(
    settings: Path, tmp_path: Path
) -> None:
    typed = [str(CLOISTER), "demo", str(settings), "--work", str(tmp_path / "work")]
    result = subprocess.run(
        typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert result.returncode == 0, result.stderr
    shown = result.stdout
    addresses = re.findall(r"(\w+): (http://127\.0\.0\.1:\d+), a learner with \d+ answers", shown)
    assert [school for school, _ in addresses] == list(SCHOOLS)
    for question in ("what is known?", "what next?", "recommended"):
        assert shown.count(question) >= len(SCHOOLS)
    assert (tmp_path / "work" / "report.html").is_file()
    assert "services stopped" in shown
    assert _serving(tmp_path / "work") == []


def test_the_demo_needs_nodes_that_can_be_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the demo needs storage: disk"):
        run_demo(config(storage="memory"), tmp_path / "work", Console(quiet=True))
    assert not (tmp_path / "work").exists()


def _serving(work: Path) -> list[str]:
    """Command lines of processes that still have to do with ``work``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended just now
        if str(work) in line:
            found.append(line)
    return found
