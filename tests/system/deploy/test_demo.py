"""The demo as a process: a consortium trains, every school's node is asked, nothing is left."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.system.deploy.test_poc import SCHOOLS, UP_S, processes_of, settings_for
from tests.system.simulated import CLOISTER


@pytest.mark.deploy
def test_the_demo_deploys_trains_asks_every_schools_node_and_compares(tmp_path: Path) -> None:
    work = tmp_path / "work"
    typed = [str(CLOISTER), "demo", str(settings_for(tmp_path)), "--work", str(work)]
    result = subprocess.run(
        typed,
        capture_output=True,
        text=True,
        timeout=UP_S,
        check=False,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    shown = result.stdout
    addresses = re.findall(r"(\w+): (http://127\.0\.0\.1:\d+), a learner with \d+ answers", shown)
    assert [school for school, _ in addresses] == list(SCHOOLS)
    for question in ("what is known?", "what next?", "recommended"):
        assert shown.count(question) >= len(SCHOOLS)
    assert "run federated: finished, 4 of 4 rounds" in shown
    assert "Learner-level differential privacy: ε ≤ 8" in shown
    assert (work / "report.html").is_file()
    assert processes_of(work) == []
