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
from tests.system.consortium import BUDGET, CURRICULUM
from typer.testing import CliRunner

from cloister_client.commands import app
from cloister_client.config import NodeConfig, ServingConfig
from cloister_client.home import NodeHome
from cloister_client.up_commands import tree_of
from cloister_shared.errors import LedgerError, ServiceError
from cloister_shared.privacy import Policy
from cloister_shared.process_tree import READY_S, cloister


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    """A node that has joined no consortium; it is down after the test."""
    config = NodeConfig(
        name="oak",
        declared_size=50,
        policy=Policy(budget=BUDGET),
        serving=ServingConfig(port=free_port()),
    )
    path = tmp_path / "oak"
    NodeHome.create(path, config, CURRICULUM)
    yield path
    tree_of(path).stop()


def command(*words: object) -> dict[str, Any]:
    """What ``cloister node`` says, as a process of its own."""
    told = subprocess.run(
        cloister("node", *map(str, words), "--json"), capture_output=True, check=True
    )
    return json.loads(told.stdout)


@pytest.mark.deploy
def test_a_node_is_brought_up_looked_at_and_taken_down(node: Path) -> None:
    up = command("up", node, "--background")
    serving = up["processes"]["serve"]
    assert (up["up"], serving["state"], up["connected"]) == (True, "ready", False)
    assert httpx.get(f"{serving['address']}/v1/health").is_success

    os.kill(serving["pid"], signal.SIGKILL)
    end = time.monotonic() + 60
    while (now := command("status", node)["processes"]["serve"])["state"] != "ready":
        assert time.monotonic() < end, now
    assert now["restarts"] == 1
    assert now["last_end"] == "killed by SIGKILL"

    again = subprocess.run(cloister("node", "up", str(node)), capture_output=True, check=False)
    assert again.returncode == 10
    assert b"is up already; take it down first" in again.stderr

    assert command("down", node)["was_up"]
    assert not command("down", node)["was_up"]
    status = command("status", node)
    assert (status["up"], status["processes"]) == (False, {})


def test_a_node_whose_ledger_is_gone_does_not_come_up(node: Path) -> None:
    (node / "ledger.sqlite").unlink()
    result = CliRunner().invoke(app, ["up", str(node)])
    assert isinstance(result.exception, LedgerError)
    assert not (node / "run").exists()


@pytest.mark.deploy
def test_what_is_up_can_be_taken_down_whatever_is_broken(node: Path) -> None:
    command("up", node, "--background")
    (node / "ledger.sqlite").unlink()
    (node / "node.yaml").write_text("{")
    assert command("down", node)["was_up"]


def test_a_node_of_no_consortium_cannot_take_part(node: Path) -> None:
    result = CliRunner().invoke(app, ["fleet", str(node)])
    assert "belongs to no consortium; see cloister node join" in str(result.exception)


@pytest.mark.deploy
def test_a_port_that_is_taken_is_told_as_soon_as_it_is_certain(node: Path) -> None:
    with socket.create_server(("127.0.0.1", NodeHome.open(node).config.serving.port)):
        began = time.monotonic()
        told = subprocess.run(
            cloister("node", "up", str(node), "--background"),
            check=False,
            capture_output=True,
            text=True,
        )
    assert told.returncode == ServiceError.exit_code
    assert "serve: service failed" in " ".join(told.stderr.split())
    assert time.monotonic() - began < 0.75 * READY_S
    assert tree_of(node).processes() == {}
