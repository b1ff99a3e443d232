"""The two app objects that the bundle names, run as an institution and a coordinator run them."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from flwr.app import Context
from tests.system.consortium import BUDGET, BUNDLE, NAMES, ROUNDS, make_home, make_run

from cloister_client.app import HOME_KEY
from cloister_server.app import AUDIT, RUN_KEY
from cloister_server.checkpoint import read_checkpoint
from cloister_shared.errors import ConfigError, PolicyError
from cloister_simulations.backend.in_process import run_in_process


def bundled(component: str):
    """The app object that the bundle's settings name."""
    settings = tomllib.loads((BUNDLE / "pyproject.toml").read_text("utf-8"))
    module, _, name = settings["tool"]["flwr"]["app"]["components"][component].partition(":")
    return getattr(import_module(module), name)


def test_the_bundle_holds_settings_and_no_code() -> None:
    assert [path.name for path in BUNDLE.iterdir()] == ["pyproject.toml"]


def test_the_bundled_apps_train_institutions_and_leave_them_a_model(tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name) for name in NAMES]
    checkpoint = make_run(tmp_path)
    nodes = {number: {HOME_KEY: str(home.path)} for number, home in enumerate(homes, start=1)}
    run = {RUN_KEY: str(checkpoint)}
    run_in_process(bundled("serverapp"), bundled("clientapp"), nodes, run)
    state = read_checkpoint(checkpoint)
    assert [record.participants for record in state.records] == [("elm", "oak")] * ROUNDS
    for home in homes:
        with home.store() as store:
            model = store.active_model("dkt")
            assert model is not None
            assert (model.weights["output"] == state.weights["dkt"]["output"]).all()
        assert home.ledger().spent()["train", "all"].epsilon(BUDGET.delta, "rdp") <= BUDGET.epsilon


def test_without_an_audits_report_a_private_run_ends_before_its_release(tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name) for name in NAMES]
    checkpoint, audit = make_run(tmp_path), tmp_path / AUDIT
    kept = audit.read_bytes()
    audit.unlink()
    nodes = {number: {HOME_KEY: str(home.path)} for number, home in enumerate(homes, start=1)}

    def run() -> None:
        apps = bundled("serverapp"), bundled("clientapp")
        run_in_process(*apps, nodes, {RUN_KEY: str(checkpoint)})

    with pytest.raises(PolicyError, match="cloister audit privacy"):
        run()
    assert read_checkpoint(checkpoint).round == ROUNDS
    assert not list(tmp_path.glob("*.release"))
    with homes[0].store() as store:
        assert store.active_model("dkt") is None
    audit.write_bytes(kept)
    run()
    with homes[0].store() as store:
        assert store.active_model("dkt") is not None


def test_a_node_without_a_home_and_a_run_without_a_checkpoint_are_told_what_to_do() -> None:
    from cloister_client.app import node_from_context
    from cloister_server.app import run_from_context

    empty = Context(1, 1, {}, {}, {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--node-config"):
        node_from_context(empty)
    with pytest.raises(ConfigError, match="--run-config"):
        run_from_context(None, empty)  # type: ignore[arg-type]
