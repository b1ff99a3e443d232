"""An order becomes a run over the approved nodes, with the noise that its budget pays for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.server.members import member

from cloister_server.checkpoint import RoundRecord
from cloister_server.config import CoordinatorConfig
from cloister_server.delivery import publish
from cloister_server.home import CoordinatorHome
from cloister_server.orders import RunOrder, place
from cloister_server.run_folder import RunFolder, Wanted
from cloister_shared.errors import BudgetExceededError, ConfigError
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.yaml_config import load_yaml

from .conftest import CURRICULUM

CONFIGS = Path(__file__).parents[2] / "configs" / "runs"
DOCUMENT: dict[str, Any] = {
    "run": "autumn",
    "privacy": {"budget": {"epsilon": 4.0, "delta": 1e-5}, "spare_rounds": 0},
    "models": [
        {
            "kind": "dkt",
            "spec": {"hidden": 3},
            "training": {"rounds": 5, "sampling_rate": 0.25, "clip_norm": 0.1},
        }
    ],
}


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    config = CoordinatorConfig(consortium="c", address="localhost")
    home = CoordinatorHome.create(tmp_path / "home", config, CURRICULUM)
    for name in ("oak", "elm", "ash"):
        home.directory().add(member(name))
    for name in ("oak", "elm"):
        home.directory().approve(name)
    return home


@pytest.fixture
def order() -> Callable[..., RunOrder]:
    def order(**changes: Any) -> RunOrder:
        return RunOrder.model_validate({**DOCUMENT, **changes})

    return order


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_is_an_order(file: Path) -> None:
    assert load_yaml(file, RunOrder).run


def test_a_run_is_of_the_approved_nodes_and_spends_the_budget(home, order) -> None:
    folder = place(home, order())
    plan = folder.state().plan
    assert plan.declared_sizes == {"oak": 100, "elm": 100}
    assert (plan.quorum, plan.curriculum) == (1, CURRICULUM.digest)
    events = [event for events in plan.events_by_round() for event in events]
    assert 3.9 < epsilon(events, 1e-5, order=order().privacy.budget.order) <= 4.0
    assert folder.wanted is Wanted.RUNNING
    assert RunOrder.of(folder) == order()


def test_a_name_is_used_once(home, order) -> None:
    place(home, order())
    with pytest.raises(ConfigError, match="autumn already"):
        place(home, order())


def test_runs_take_turns_in_the_order_in_which_they_were_asked_for(home, order) -> None:
    for name in ("winter", "autumn", "spring"):
        place(home, order(run=name))
    assert [one.name for one in RunFolder.queue(home.runs)] == ["winter", "autumn", "spring"]
    first = RunFolder(home.runs / "winter")
    first.want(Wanted.STOPPED)
    first.want(Wanted.RUNNING)
    assert [one.name for one in RunFolder.queue(home.runs)] == ["autumn", "spring", "winter"]


def test_noise_that_is_too_little_for_the_budget_is_refused(home, order) -> None:
    document = {**DOCUMENT["models"][0]}
    document["training"] = {**document["training"], "noise_multiplier": 0.3}
    with pytest.raises(BudgetExceededError, match="model dkt, 1 of the budget"):
        place(home, order(models=[document]))
    assert list(RunFolder.all(home.runs)) == []


def test_nobody_trains_before_somebody_is_approved(home, order) -> None:
    for name in ("oak", "elm"):
        home.directory().revoke(name)
    with pytest.raises(ConfigError, match="no node is approved yet; waiting for it: ash"):
        place(home, order())
    home.directory().revoke("ash")
    with pytest.raises(
        ConfigError, match="no node is approved yet; see cloister coordinator invite"
    ):
        place(home, order())


def test_a_quorum_beyond_the_nodes_is_refused(home, order) -> None:
    with pytest.raises(ConfigError, match="a quorum of 3 was ordered, 2 nodes are approved"):
        place(home, order(quorum=3))


def test_a_run_goes_on_from_the_active_version_and_says_so(home, order) -> None:
    model = DOCUMENT["models"][0]
    with pytest.raises(ConfigError, match="no dkt is active yet"):
        place(home, order(models=[{**model, "start": "active"}]))
    first = place(home, order())
    state = first.state()
    state.weights["dkt"] = {name: array + 1 for name, array in state.weights["dkt"].items()}
    state.round = 5
    record = {"seconds": 1.0, "bytes_down": 1, "bytes_up": 1, "rejected": {}}
    state.records.append(RoundRecord(round=5, participants=("oak",), **record))
    publish(home, first, state)
    second = place(home, order(run="winter", models=[{**model, "start": "active"}]))
    started = second.state().weights["dkt"]
    assert all(np.array_equal(started[name], state.weights["dkt"][name]) for name in started)
    publish(home, second, state_of(second))
    parent, child = (one.manifest for one in home.models().versions())
    assert child.parent == parent.version
    larger = order(run="spring", models=[{**model, "start": "active", "spec": {"hidden": 4}}])
    with pytest.raises(ConfigError, match="not of the size or kind"):
        place(home, larger)


def state_of(folder: RunFolder):
    """As if its rounds were done."""
    state = folder.state()
    state.round = 5
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": [*DOCUMENT["models"], *DOCUMENT["models"]]}, "each model kind stands once"),
        ({"privacy": {**DOCUMENT["privacy"], "sigma": 1}}, "Extra inputs"),
        ({"run": "../escape"}, "should match pattern"),
        ({"models": [{**DOCUMENT["models"][0], "kind": "essays"}]}, "no model kind is called"),
    ],
)
def test_a_mistake_is_named(order, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        order(**change)
