"""``cloister coordinator init``, ``invite`` and ``nodes`` as an operator types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import CURRICULUM
from tests.server.joining import request_with
from typer.testing import CliRunner

from cloister_server.commands import app
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_shared.errors import ConfigError, PolicyError
from cloister_shared.journal import read
from cloister_shared.kit import SignedKit, Standing


def output(*arguments: str | Path) -> dict[str, Any]:
    """The JSON document that a command prints; its error, if it failed."""
    result = CliRunner().invoke(app, [*(str(one) for one in arguments), "--json"])
    if result.exception:
        raise result.exception
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CoordinatorHome:
    monkeypatch.chdir(tmp_path)
    Path("coordinator.yaml").write_text("consortium: north\naddress: 127.0.0.1\n")
    CURRICULUM.save(Path("curriculum.json"))
    options = ("--config", "coordinator.yaml", "--curriculum", "curriculum.json")
    made = output("init", "home", *options)
    home = CoordinatorHome.open(Path("home"))
    assert made["fingerprint"] == home.fingerprint
    return home


def _join(home: CoordinatorHome, kit: Path, address: str = "10.0.0.1") -> str:
    """A node joins with the kit; its fingerprint."""
    request = request_with(SignedKit.load(kit))
    return Invitations(home).redeem(request, address).fingerprint


def test_a_kit_is_its_readers_alone_and_written_once(home: CoordinatorHome) -> None:
    made = output("invite", "home", "oak")
    kit = Path(made["kit"])
    assert (kit.name, kit.stat().st_mode & 0o777) == ("oak.kit", 0o600)
    assert SignedKit.load(kit).kit.fingerprint == made["coordinator_fingerprint"]
    with pytest.raises(ConfigError, match=r"oak\.kit exists; delete it, or name another"):
        output("invite", "home", "oak")
    assert output("nodes", "list", "home")["invited"].keys() == {"oak"}


@pytest.mark.parametrize("name", ["../oak", "", "oak school", "x" * 65])
def test_a_name_that_is_none_is_refused(home: CoordinatorHome, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a node's name"):
        output("invite", "home", name)


def test_a_node_is_approved_by_its_fingerprint_alone(home: CoordinatorHome) -> None:
    fingerprint = _join(home, Path(output("invite", "home", "oak")["kit"]))
    with pytest.raises(PolicyError, match="is not that of the node oak: nothing was done"):
        output("nodes", "approve", "home", "oak", "--fingerprint", home.fingerprint)
    with pytest.raises(PolicyError, match="by telephone or on paper"):
        output("nodes", "approve", "home", "oak")
    assert home.directory().approved() == {}
    approved = output("nodes", "approve", "home", "oak", "--fingerprint", fingerprint)
    assert approved["standing"] == "approved"
    assert home.directory().approved().keys() == {"oak"}
    output("nodes", "revoke", "home", "oak")
    member = home.directory().get("oak")
    assert member is not None
    assert member.standing is Standing.REVOKED
    told = [entry["event"] for entry in read(home.logs / "nodes.jsonl", 10)]
    assert told == ["invited", "joined", "approved", "revoked"]


def test_nobody_is_approved_who_did_not_join(home: CoordinatorHome) -> None:
    for command in ("approve", "revoke"):
        with pytest.raises(PolicyError, match="no node called elm has joined"):
            output("nodes", command, "home", "elm")


def test_a_kit_that_was_used_twice_stands_in_the_list(home: CoordinatorHome) -> None:
    kit = Path(output("invite", "home", "oak")["kit"])
    _join(home, kit, "203.0.113.9")
    with pytest.raises(PolicyError):
        _join(home, kit, "10.0.0.1")
    (oak,) = output("nodes", "list", "home")["nodes"]
    assert [use.split(" from ")[1].split()[0] for use in oak["kit_used_more_than_once"]] == [
        "203.0.113.9",
        "10.0.0.1",
    ]
    shown = CliRunner().invoke(app, ["nodes", "list", "home"], env={"COLUMNS": "200"})
    assert shown.output.count("The kit of oak was used") == 2
    assert oak["fingerprint"] in shown.output
