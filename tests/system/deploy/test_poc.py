"""`cloister poc` as somebody types it: processes, TLS, a run, services, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.system.simulated import CLOISTER, document

from cloister_client.home import NodeHome
from cloister_shared.errors import INTERRUPTED_EXIT_CODE, ConfigError, ServiceError

pytestmark = pytest.mark.deploy

SCHOOLS = ("ash", "birch", "cedar")
UP_S, DOWN_S = 900.0, 120.0
"""Of a machine with much else to do."""


def settings_for(folder: Path) -> Path:
    """Three schools, both models, four private rounds."""
    chosen = document(
        storage="disk",
        evaluate_every_rounds=2,
        privacy={"budget": {"epsilon": 8.0, "delta": 1e-5}, "metrics": {"every_rounds": 4}},
    )
    generator = chosen["data"]["generator"]
    generator["schools"] = [{"name": name, "learners": 70} for name in SCHOOLS]
    generator["items_per_skill"] = 20  # so that something is left to recommend
    (dkt,) = chosen["models"]
    training = {**dkt["private"], "rounds": 4}
    models = {"dkt": dkt["spec"], "recommender": {"factors": 4}}
    chosen["models"] = [
        {
            "kind": kind,
            "spec": spec,
            "budget_share": 0.5,
            "private": training,
            "non_private": training,
        }
        for kind, spec in models.items()
    ]
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(chosen))
    return path


def poc(*arguments: str, seconds: float = UP_S) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(CLOISTER), "poc", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that have to do with ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended just now
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return settings_for(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def consortium(
    settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A consortium that was brought up, and what was said of it."""
    folder = tmp_path_factory.mktemp("poc") / "work"
    try:
        result = poc("up", str(folder), "--config", str(settings), "--json")
        assert result.returncode == 0, result.stderr
        yield folder, json.loads(result.stdout)
    finally:
        poc("down", str(folder), seconds=DOWN_S)


def test_everybody_is_up_and_one_private_run_of_both_models_is_finished(
    consortium: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = consortium
    assert said["up"]
    (run,) = said["runs"]
    assert (run["state"], run["round"]) == ("finished", 4)
    assert list(said["nodes"]) == list(SCHOOLS)
    for node in said["nodes"].values():
        assert node["connected"]
        assert sorted(node["models"]) == ["dkt", "recommender"]
        assert 0 < node["epsilon"] <= 8.0
    shown = poc("status", str(folder))
    assert shown.returncode == 0, shown.stderr
    assert said["coordinator"]["status_page"] in shown.stdout


def test_services_answer_and_the_status_page_is_open(
    consortium: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = consortium
    for name, node in said["nodes"].items():
        token = NodeHome.open(folder / "nodes" / name).api_token()
        url = f"{node['service']}/v1/learners/{name}-1/mastery"
        assert httpx.get(url).status_code == httpx.codes.UNAUTHORIZED
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == httpx.codes.OK, answer.text
        assert answer.json()["skills"]
    page = httpx.get(said["coordinator"]["status_page"])
    assert page.status_code == httpx.codes.OK
    assert "federated" in page.text


def test_up_again_trains_nothing_twice(
    consortium: tuple[Path, dict[str, Any]], settings: Path
) -> None:
    folder, said = consortium
    result = poc("up", str(folder), "--config", str(settings), "--json")
    assert result.returncode == 0, result.stderr
    again = json.loads(result.stdout)
    assert again["runs"] == said["runs"]
    assert {name: one["epsilon"] for name, one in again["nodes"].items()} == {
        name: one["epsilon"] for name, one in said["nodes"].items()
    }


def test_down_ends_every_process_and_frees_every_port(
    consortium: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = consortium
    result = poc("down", str(folder), "--json", seconds=DOWN_S)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["were_up"] == sorted(("coordinator", *SCHOOLS))
    assert processes_of(folder) == []
    addresses = [said["coordinator"]["address"], said["coordinator"]["status_page"]]
    for address in (*addresses, *(node["service"] for node in said["nodes"].values())):
        port = int(address.rpartition(":")[2])
        assert socket.socket().connect_ex(("127.0.0.1", port)) != 0
    assert poc("status", str(folder)).returncode == ServiceError.exit_code
    assert json.loads(poc("down", str(folder), "--json").stdout)["were_up"] == []


def test_after_down_the_same_command_brings_everybody_back(
    consortium: tuple[Path, dict[str, Any]], settings: Path
) -> None:
    folder, said = consortium
    result = poc("up", str(folder), "--config", str(settings), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["runs"] == said["runs"]


def test_ctrl_c_leaves_nothing_running_and_the_same_command_goes_on(
    settings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    command = ["poc", "up", str(folder), "--config", str(settings), "--json"]
    with subprocess.Popen([str(CLOISTER), *command], stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + UP_S
        while len(processes_of(folder)) < 4 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=UP_S)
    assert process.returncode == INTERRUPTED_EXIT_CODE, said
    assert processes_of(folder) == []
    result = poc(*command[1:])
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["runs"][0]["state"] == "finished"
    cleaned = poc("clean", str(folder), seconds=DOWN_S)
    assert cleaned.returncode == 0, cleaned.stderr
    assert not folder.exists()
    assert processes_of(folder) == []
    assert poc("down", str(folder)).returncode == ConfigError.exit_code
