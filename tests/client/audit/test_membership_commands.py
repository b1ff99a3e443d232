"""``cloister audit membership`` says what can be told, and that its figures are not to leave."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_client.home import NodeHome
from cloister_shared.cli import build_app
from cloister_shared.errors import DataError, PolicyError

from ..memorized import DKT, make_home, release, trained, with_limit


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """It serves a model that knows its learners by heart, and keeps an untrained one."""
    home = make_home(tmp_path_factory.mktemp("nodes") / "oak")
    with home.store() as store:
        private = trained(store, DKT, by_heart=False)
        release(home, private, "private")
        release(with_limit(home, None), trained(store, DKT, by_heart=True), "by-heart")
    return home


def audit(home: NodeHome, *options: str) -> Result:
    words = ["audit", "membership", str(home.path), *options]
    return CliRunner().invoke(build_app(), words, env={"COLUMNS": "160"})


def test_a_served_model_that_tells_who_was_trained_on_ends_with_8(home: NodeHome) -> None:
    result = audit(home, "--json")
    assert isinstance(result.exception, PolicyError)
    assert result.exception.exit_code == 8
    found = json.loads(result.stdout)
    (report,) = found["reports"]
    assert report["lower_bound"] > found["max_membership_advantage"] == 0.25
    assert "itself a release" in found["note"]


def test_a_kept_model_is_attacked_by_its_version_and_the_figures_are_not_to_leave(
    home: NodeHome,
) -> None:
    with home.store() as store:
        active = store.active_model("dkt")
        assert active is not None
        private = store.kept_before(active)
    assert private is not None
    result = audit(home, "--version", private.version)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "a figure that leaves it is itself a release" in shown.lower()
    assert "ε and δ allow an advantage of 0.964" in shown
    assert "untrained" in shown


def test_looking_costs_nothing_and_leaves_nothing_behind(home: NodeHome) -> None:
    def content() -> list[bytes]:
        return [path.read_bytes() for path in sorted(home.path.rglob("*.sqlite"))]

    before = content()
    audit(home)
    assert content() == before


def test_without_a_model_there_is_nothing_to_attack(tmp_path: Path) -> None:
    result = audit(make_home(tmp_path / "empty"))
    assert isinstance(result.exception, DataError)
    assert "name a kept one with --version" in str(result.exception)
    unknown = audit(make_home(tmp_path / "other"), "--version", "0" * 64)
    assert isinstance(unknown.exception, DataError)


def test_the_status_says_which_model_is_not_served_and_why(tmp_path: Path) -> None:
    node = make_home(tmp_path / "node")
    with node.store() as store:
        weights = trained(store, DKT, by_heart=True)
    _, version = release(node, weights, "blocked")
    result = CliRunner().invoke(build_app(), ["node", "status", str(node.path), "--json"])
    status = json.loads(result.stdout)
    assert status["active_models"] == {}
    assert "max_membership_advantage" in status["blocked_models"][version]
