"""``cloister coordinator run`` and ``models`` as an operator types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.server.members import member
from typer.testing import CliRunner

from cloister_server.checkpoint import RoundRecord, save_checkpoint
from cloister_server.commands import app
from cloister_server.config import CoordinatorConfig
from cloister_server.delivery import publish
from cloister_server.home import CoordinatorHome
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.errors import ConfigError, RunError

from .conftest import CURRICULUM
from .test_orders import DOCUMENT


def printed(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def output(*arguments: str | Path) -> dict[str, Any]:
    document = json.loads(printed(*arguments, "--json").splitlines()[-1])
    assert isinstance(document, dict)
    return document


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    config = CoordinatorConfig(consortium="c", address="localhost")
    home = CoordinatorHome.create(tmp_path / "home", config, CURRICULUM)
    home.directory().add(member("oak"))
    home.directory().approve("oak")
    return home


@pytest.fixture
def start(home: CoordinatorHome, tmp_path: Path):
    def start(run: str, *options: str | Path) -> dict[str, Any]:
        file = tmp_path / "order.yaml"
        file.write_text(yaml.safe_dump({**DOCUMENT, "run": run}))
        return output("run", "start", home.path, file, *options)

    return start


def do_round(folder: RunFolder, finish: bool = False) -> None:
    """What the runner writes after a round in which elm was refused."""
    state = folder.state()
    state.round += 1
    state.records.append(
        RoundRecord(
            round=state.round,
            seconds=0.5,
            bytes_down=100,
            bytes_up=50,
            participants=("oak",),
            rejected={"elm": "refused: budget"},
        )
    )
    save_checkpoint(folder.checkpoint, state)
    folder.tell(Phase.FINISHED if finish else Phase.RUNNING)
    if finish:
        folder.want(Wanted.STOPPED)


def test_a_second_run_waits_for_the_first_and_is_told_so(home, start) -> None:
    assert start("autumn")["state"] == "queued, next"
    second = start("winter")
    assert (second["state"], second["runs_before_it"]) == ("queued, 1 before it", 1)
    RunFolder(home.runs / "autumn").tell(Phase.RUNNING)
    states = {one["run"]: one["state"] for one in output("run", "list", home.path)["runs"]}
    assert states == {"autumn": "running", "winter": "queued, 1 before it"}
    assert "queued, 1 before" in " ".join(printed("run", "list", home.path).split())


def test_what_a_run_spent_grows_with_its_rounds(home, start) -> None:
    before = start("autumn")
    assert (before["epsilon_so_far"], before["rounds"]) == (0.0, 5)
    do_round(RunFolder(home.runs / "autumn"))
    (after,) = output("run", "list", home.path)["runs"]
    assert 0 < after["epsilon_so_far"] < after["epsilon_in_all"] <= 4.0
    assert after["refusals"] == 1


def test_a_run_is_stopped_and_resumed(home, start) -> None:
    start("autumn")
    folder = RunFolder(home.runs / "autumn")
    do_round(folder)
    assert output("run", "stop", home.path, "autumn")["state"] == "stopping after this round"
    folder.tell(Phase.STOPPED)
    assert output("run", "resume", home.path, "autumn")["state"] == "queued, next"
    assert folder.wanted is Wanted.RUNNING


def test_an_audit_is_laid_beside_the_run_that_it_opens_the_gate_for(home, start, tmp_path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"reports": []}')
    start("autumn", "--audit", report)
    folder = RunFolder(home.runs / "autumn")
    assert folder.audit.read_bytes() == report.read_bytes()
    report.write_text('{"reports": [1]}')
    folder.want(Wanted.STOPPED)
    folder.tell(Phase.FAILED, "the models are not released")
    output("run", "resume", home.path, "autumn", "--audit", report)
    assert folder.audit.read_bytes() == report.read_bytes()
    with pytest.raises(ConfigError, match="cannot read"):
        start("winter", "--audit", tmp_path / "nowhere.json")
    assert not (home.runs / "winter").exists()


def test_watching_shows_every_round_and_ends_with_the_run(home, start) -> None:
    start("autumn")
    folder = RunFolder(home.runs / "autumn")
    for number in range(5):
        do_round(folder, finish=number == 4)
    text = printed("run", "watch", home.path, "autumn")
    assert "round 5 of 5: 0.50 s, oak; elm refused: budget" in text
    assert "autumn: finished" in text


def test_watching_a_run_that_fails_ends_with_its_reason(home, start) -> None:
    start("autumn")
    folder = RunFolder(home.runs / "autumn")
    folder.want(Wanted.STOPPED)
    folder.tell(Phase.FAILED, "round 1 needs 1 contributions")
    with pytest.raises(RunError, match="autumn failed: round 1 needs 1"):
        printed("run", "watch", home.path, "autumn")
    assert "round 1 needs" in printed("run", "list", home.path)


def test_a_finished_run_is_neither_stopped_nor_resumed(home, start) -> None:
    start("autumn")
    do_round(RunFolder(home.runs / "autumn"), finish=True)
    for command in ("stop", "resume"):
        with pytest.raises(ConfigError, match="is finished"):
            output("run", command, home.path, "autumn")
    with pytest.raises(ConfigError, match="no run is called spring; known: autumn"):
        output("run", "stop", home.path, "spring")


def test_rollback_is_one_command(home, start) -> None:
    made = []
    for run in ("autumn", "winter"):
        start(run)
        folder = RunFolder(home.runs / run)
        do_round(folder, finish=True)
        publish(home, folder, folder.state())
        made.append(home.models().active().models["dkt"])
    listed = output("models", "list", home.path)["models"]
    assert [(one["version"], one["active"]) for one in listed] == [
        (made[0], False),
        (made[1], True),
    ]
    back = output("models", "rollback", home.path)
    assert back["dkt"] == made[0]
    assert back["nodes_that_get_them_now_or_when_they_come_back"] == ["oak"]
    assert output("models", "promote", home.path, made[1][:8])["dkt"] == made[1]


def test_a_versions_lineage_is_shown_once_it_is_verified(home, start) -> None:
    start("autumn")
    folder = RunFolder(home.runs / "autumn")
    do_round(folder, finish=True)
    publish(home, folder, folder.state())
    version = home.models().active().models["dkt"]
    shown = output("models", "show", home.path, version[:10])
    assert (shown["run"], shown["parent"]) == ("autumn", "none: public initial weights")
    assert list(shown["pseudonyms"].values()) == ["oak"]
    assert shown["signed_by"] == home.signing_key().public
    assert version[:12] in printed("models", "list", home.path)
