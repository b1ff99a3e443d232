"""Preflight names each problem and its fix, and goes through where there is none."""

import itertools
import json
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.listening import listening, serving
from typer.testing import CliRunner

from cloister_client import preflight as module
from cloister_client.commands import app
from cloister_client.home import NodeHome
from cloister_client.joining import join
from cloister_client.preflight import CHECKS, preflight
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import BudgetExceededError, ServiceError
from cloister_shared.kit import SignedKit
from cloister_shared.privacy import SampledGaussian
from cloister_shared.privacy.ledger_format import Charge, ModelEvent

CURRICULUM = Curriculum.model_validate(
    {"name": "c", "skills": [{"id": "a"}], "items": [{"id": "i", "skills": ["a"]}]}
)
LOCAL = ("home", "files", "disk", "budget", "joined")


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    with listening(tmp_path_factory.mktemp("consortium") / "home", CURRICULUM) as home:
        yield home


@pytest.fixture
def kit(coordinator: CoordinatorHome) -> SignedKit:
    """A kit for a node that was never heard of before."""
    return Invitations(coordinator).issue(f"school-{secrets.token_hex(4)}")


@pytest.fixture
def node(tmp_path: Path, coordinator: CoordinatorHome, kit: SignedKit) -> Path:
    """A node that has joined and was approved."""
    config = tmp_path / "node.yaml"
    config.write_text(f"name: {kit.kit.node}\ndeclared_size: 500\n")
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    coordinator.directory().approve(kit.kit.node)
    return tmp_path / "node"


def _repin(home: Path, **fields: object) -> None:
    """Change what the node has pinned."""
    path = home / "coordinator.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _reconfigure(node: Path, **fields: object) -> None:
    path = node / "node.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))


def _charge(number: int, event: SampledGaussian) -> Charge:
    return Charge(
        run="r",
        round=number,
        plan="p",
        request=str(number),
        cohorts=("all",),
        events=(ModelEvent(model="dkt", event=event),),
    )


def _only_problem(node: Path, check: str, problem: str, fix: str, **options: Any) -> list[str]:
    """Which checks were made, the last of which but for others found just this."""
    findings = preflight(node, **options)
    found = {one.check: one for one in findings if one.problem}
    assert found.keys() == {check}, findings
    assert problem in found[check].problem
    assert fix in found[check].fix
    return [one.check for one in findings]


def test_a_node_that_is_ready_has_no_problem(node: Path) -> None:
    findings = preflight(node)
    assert [one.check for one in findings] == [check.name for check in CHECKS]
    assert {one.problem for one in findings} == {""}


def test_no_home(tmp_path: Path) -> None:
    _only_problem(tmp_path, "home", "is no node's home", "cloister node init")


def test_a_key_that_is_missing(node: Path) -> None:
    (node / "keys" / "role.key").unlink()
    _only_problem(node, "home", "role.key", "restore the keys")


def test_permissions(node: Path) -> None:
    (node / "keys" / "transport.key").chmod(0o644)
    found = {one.check: one.fix for one in preflight(node) if one.problem}
    assert found["files"] == f"chmod 600 {node / 'keys' / 'transport.key'}"
    (node / "keys" / "transport.key").chmod(0o600)
    node.chmod(0o755)
    _only_problem(node, "files", "is open to other users", f"chmod 700 {node}")


def test_disk(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(node)._replace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    _only_problem(node, "disk", "only 5 MiB are free", "make room: 1,024 MiB")


def test_budget_left_for_no_round(node: Path) -> None:
    ledger = NodeHome.open(node).ledger()
    event = SampledGaussian(noise_multiplier=1.0, sampling_rate=0.05, steps=4)
    with suppress(BudgetExceededError):
        for number in itertools.count(1):
            ledger.reserve(_charge(number, event))
    ledger.close()
    _only_problem(node, "budget", "no cohort has privacy budget left", "a new term of cohorts")
    _reconfigure(node, cohorts=["all", "2027"])
    assert {one.problem for one in preflight(node)} == {""}


def test_not_joined(node: Path) -> None:
    (node / "coordinator.json").unlink()
    made = _only_problem(node, "joined", "has not joined", "cloister node join KIT DIR")
    assert tuple(made) == LOCAL


def test_dns(node: Path) -> None:
    _repin(node, host="coordinator.invalid")
    made = _only_problem(node, "name", "coordinator.invalid is not known here", "name service")
    assert tuple(made) == (*LOCAL, "name")


def test_port(node: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    _repin(node, port=free)
    made = _only_problem(node, "port", f"nothing answers at 127.0.0.1:{free}", "firewall")
    assert tuple(made) == (*LOCAL, "name", "port")


def test_tls_of_another_authority(node: Path, coordinator: CoordinatorHome, tmp_path: Path) -> None:
    other = CoordinatorHome.create(tmp_path / "other", coordinator.config, CURRICULUM)
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(other, listener):
        _repin(node, port=listener.getsockname()[1])
        _only_problem(node, "tls", "does not show its certificate", "somebody may stand in between")


def test_tls_of_another_name(node: Path, coordinator: CoordinatorHome, tmp_path: Path) -> None:
    moved = coordinator.config.model_copy(update={"address": "elsewhere.example.org"})
    shutil.copytree(coordinator.path, tmp_path / "moved")
    home = CoordinatorHome(tmp_path / "moved", moved, CURRICULUM)
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(home, listener):
        _repin(node, port=listener.getsockname()[1])
        _only_problem(node, "tls", "IP address mismatch", "other_addresses")


def test_no_tls_at_all(node: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _repin(node, port=listener.getsockname()[1])
        _answer_plainly(listener)
        _only_problem(node, "tls", "does not speak TLS", "a proxy may stand in between")


def test_not_approved_and_revoked(
    tmp_path: Path, coordinator: CoordinatorHome, kit: SignedKit
) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(f"name: {kit.kit.node}\ndeclared_size: 500\n")
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    member = coordinator.directory().get(kit.kit.node)
    assert member is not None
    _only_problem(tmp_path / "node", "standing", "has not approved", member.fingerprint)
    coordinator.directory().approve(kit.kit.node)
    coordinator.directory().revoke(kit.kit.node)
    _only_problem(tmp_path / "node", "standing", "has shut this node out", "call the operator")


def test_a_node_that_the_coordinator_does_not_know(
    node: Path, coordinator: CoordinatorHome
) -> None:
    _repin(node, node="somebody-else")
    _only_problem(node, "answer", "knows no node somebody-else", "join again with a new kit")


@pytest.mark.parametrize(("days", "word"), [(1, "ahead of"), (-1, "behind")])
def test_clock(node: Path, days: int, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Skewed":
            return cls.fromtimestamp(time.time(), UTC) + timedelta(days=days)

    monkeypatch.setattr(module, "datetime", Skewed)
    _only_problem(node, "clock", word, "timedatectl set-ntp true")


def test_curriculum_digest(node: Path) -> None:
    document = json.loads((node / "curriculum.json").read_text())
    document["version"] = 2
    (node / "curriculum.json").write_text(json.dumps(document))
    _only_problem(node, "curriculum", "another curriculum", "in a new folder")


def test_declared_size(node: Path) -> None:
    _reconfigure(node, declared_size=700)
    _only_problem(node, "declared size", "declares 700 learners", "write 500")


def test_release_not_accepted(node: Path) -> None:
    _only_problem(node, "release", "takes 0.0.9", "nodes are upgraded first", accepted=("0.0.9",))


def test_the_command_ends_with_a_documented_exit_code(node: Path) -> None:
    ready = CliRunner().invoke(app, ["preflight", str(node), "--json"])
    assert json.loads(ready.stdout)["ready"] is True
    node.chmod(0o755)
    result = CliRunner().invoke(app, ["preflight", str(node), "--json"])
    assert isinstance(result.exception, ServiceError)
    assert result.exception.exit_code == 10
    document = json.loads(result.stdout)
    assert [one["check"] for one in document["checks"] if one["problem"]] == ["files"]
    shown = CliRunner().invoke(app, ["preflight", str(node)], env={"COLUMNS": "300"})
    assert f"chmod 700 {node}" in shown.output


def _answer_plainly(listener: socket.socket) -> None:
    """Answer every connection as a web server without TLS does."""
    import threading

    def answer() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            connection.recv(1)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

    threading.Thread(target=answer, daemon=True).start()
