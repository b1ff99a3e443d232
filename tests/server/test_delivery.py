"""Finished models reach every node: those that are there, and those that come back later."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.server.members import member

import cloister_server.delivery
from cloister_server.checkpoint import RunState
from cloister_server.config import CoordinatorConfig
from cloister_server.delivery import AGAIN_AFTER, SILENT_FOR, Courier, Deliveries, publish
from cloister_server.home import CoordinatorHome
from cloister_server.run_folder import RunFolder
from cloister_shared.messages import Receipt, Refusal, Release, split, unpack
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan

from .conftest import CURRICULUM, key_of, signed

NAMES = {11: "north", 12: "south"}
SECOND = timedelta(seconds=1)


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    config = CoordinatorConfig(consortium="c", address="localhost")
    home = CoordinatorHome.create(tmp_path / "home", config, CURRICULUM)
    for name in NAMES.values():
        joined = member(name).model_copy(update={"signing_key": key_of(name).public})
        home.directory().add(joined)
        home.directory().approve(name)
    return home


@pytest.fixture
def finish(home, plan: Plan, weights: dict[str, Weights]) -> Callable[[str], None]:
    """Publish the models of a run."""

    def finish(run: str) -> None:
        named = plan.model_copy(update={"run": run})
        state = RunState(Plan.model_validate(named.model_dump(mode="json")), weights, round=4)
        publish(home, RunFolder.make(home.runs, state), state)

    return finish


def refusing(name: str) -> Callable[[bytes], bytes]:
    def answer(message: bytes) -> bytes:
        release, _ = unpack(message, Release)
        return signed(
            Refusal(plan=release.plan.digest, round=release.round, node=name, code="policy")
        )

    return answer


def pass_time(monkeypatch: pytest.MonkeyPatch, time: timedelta) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, _zone=None):
            return datetime.now(UTC) + time

    monkeypatch.setattr(cloister_server.delivery, "datetime", Later)


def test_every_node_gets_the_finished_models_with_their_signed_lineage(
    home, finish, exchange_of, honest_node
) -> None:
    finish("autumn")
    exchange = exchange_of({number: honest_node(name) for number, name in NAMES.items()})
    Courier(home).deliver(exchange, NAMES)
    ((_, bodies),) = exchange.sent
    assert bodies.keys() == NAMES.keys()
    release, arrays = unpack(bodies[11], Release)
    for one in release.manifests:
        one.check(split(arrays)[one.manifest.kind], home.signing_key().public)
    assert Courier(home).due(NAMES.values()) == []


def test_a_late_node_gets_the_active_version(home, finish, exchange_of, honest_node) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: honest_node("north")}), {11: "north"})
    finish("winter")
    assert Courier(home).due(NAMES.values()) == ["north", "south"]
    exchange = exchange_of({12: honest_node("south")})
    Courier(home).deliver(exchange, {12: "south"})
    assert [unpack(body[12], Release)[0].plan.run for _, body in exchange.sent] == ["winter"]
    assert Courier(home).due(NAMES.values()) == ["north"]


def test_a_rollback_is_delivered_as_a_promotion_is(home, finish, exchange_of, honest_node) -> None:
    exchange = exchange_of({11: honest_node("north")})
    for run in ("autumn", "winter"):
        finish(run)
        Courier(home).deliver(exchange, {11: "north"})
    home.models().rollback()
    Courier(home).deliver(exchange, {11: "north"})
    releases = [unpack(bodies[11], Release)[0] for _, bodies in exchange.sent]
    assert [one.plan.run for one in releases] == ["autumn", "winter", "autumn"]
    serials = [one.serial for one in releases]
    assert serials == sorted(set(serials)), "a node refuses what is older than what it has"


def test_models_of_two_runs_come_in_two_messages_of_one_model_each(
    home, finish, exchange_of
) -> None:
    finish("autumn")
    finish("winter")
    autumn = [one.manifest for one in home.models().versions() if one.manifest.run == "autumn"]
    home.models().promote([next(one.version for one in autumn if one.kind == "dkt")])
    given = []

    def answer(message: bytes) -> bytes:
        release, arrays = unpack(message, Release)
        given.append((release.plan.run, tuple(split(arrays))))
        return signed(Receipt(plan=release.plan.digest, round=release.round, node="north"))

    Courier(home).deliver(exchange_of({11: answer}), {11: "north"})
    assert sorted(given) == [("autumn", ("dkt",)), ("winter", ("recommender",))]


def test_a_refusal_is_noted_and_asked_for_again_later(
    home, finish, exchange_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: refusing("north")}), {11: "north"})
    refused = Deliveries(home).refused("north", home.models().active())
    assert refused == {"dkt": "policy", "recommender": "policy"}
    assert Courier(home).due(["north"]) == []

    pass_time(monkeypatch, SILENT_FOR + SECOND)
    assert Courier(home).due(["north"]) == [], "that is enough for who was silent only"
    pass_time(monkeypatch, AGAIN_AFTER + SECOND)
    assert Courier(home).due(["north"]) == ["north"]


def test_who_is_silent_keeps_no_delivery_waiting_again_and_is_asked_later(
    home, finish, exchange_of, honest_node, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish("autumn")
    exchange = exchange_of({11: lambda _: None, 12: honest_node("south")})
    Courier(home).deliver(exchange, NAMES)
    assert Courier(home).due(NAMES.values()) == []
    assert Deliveries(home).missing("north", home.models().active()).keys() == {
        "dkt",
        "recommender",
    }
    assert Deliveries(home).refused("north", home.models().active()) == {}, "it said nothing"
    pass_time(monkeypatch, SILENT_FOR + SECOND)
    assert Courier(home).due(NAMES.values()) == ["north"]


def test_who_was_silent_and_went_away_is_asked_when_it_is_back(home, finish, exchange_of) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: lambda _: None}), {11: "north"})
    assert Courier(home).due(["south"]) == ["south"]
    assert Courier(home).due(["north"]) == ["north"]


def test_who_is_silent_is_asked_about_the_next_version_at_once(home, finish, exchange_of) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: lambda _: None}), {11: "north"})
    finish("winter")
    assert Courier(home).due(["north"]) == ["north"]


@pytest.mark.parametrize("answered", [0, 1])
def test_who_is_silent_to_one_release_is_not_waited_for_with_the_next(
    home, finish, exchange_of, honest_node, answered: int
) -> None:
    """What it stored before it fell silent counts."""
    finish("autumn")
    finish("winter")
    autumn = [one.manifest for one in home.models().versions() if one.manifest.run == "autumn"]
    home.models().promote([next(one.version for one in autumn if one.kind == "dkt")])
    asked = []

    def answer(message: bytes) -> bytes | None:
        release, _ = unpack(message, Release)
        asked.append(release)
        if len(asked) > answered:
            return None
        return signed(Receipt(plan=release.plan.digest, round=release.round, node="north"))

    Courier(home).deliver(exchange_of({11: answer}), {11: "north"})
    assert len(asked) == answered + 1
    assert len(Deliveries(home).missing("north", home.models().active())) == 2 - answered
    assert Courier(home).due(["north"]) == []


def test_nobody_takes_a_model_in_anothers_name(home, finish, exchange_of, honest_node) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: honest_node("south")}), {11: "north"})
    choice = home.models().active()
    for name in NAMES.values():
        assert Deliveries(home).missing(name, choice).keys() == {"dkt", "recommender"}


def test_a_model_that_is_promoted_once_more_is_given_once_more(
    home, finish, exchange_of, honest_node
) -> None:
    finish("autumn")
    Courier(home).deliver(exchange_of({11: honest_node("north")}), {11: "north"})
    Deliveries(home).forget(set(home.models().active().models.values()))
    assert Courier(home).due(["north"]) == ["north"]
