"""A released model that tells who was trained on is kept and not served, and nobody is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister_client import wishes
from cloister_client.activation import Activation
from cloister_client.app import node_from_home
from cloister_client.home import NodeHome
from cloister_client.store import Store
from cloister_shared.messages import Receipt, Release, unpack
from cloister_shared.model_specs import Weights

from .memorized import DKT, everybody, make_home, plan_of, release, trained, with_limit


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    return make_home(tmp_path_factory.mktemp("nodes") / "oak")


@pytest.fixture(scope="module")
def by_heart(home: NodeHome) -> Weights:
    with home.store() as store:
        return trained(store, DKT, by_heart=True)


@pytest.fixture
def store(home: NodeHome) -> Iterator[Store]:
    with home.store() as store:
        yield store


def test_a_model_that_knows_learners_by_heart_is_kept_and_not_served(home, by_heart, store, caplog):
    _, version = release(home, by_heart, "overfitted")
    assert store.active_model("dkt") is None
    reason = store.blocked_models()[version]
    assert "max_membership_advantage is 0.25" in reason
    assert f"dkt {version} is not served: {reason}" in caplog.text
    assert "learner" not in caplog.text, "no learner is named"


def test_a_private_model_is_served(home, store):
    weights = trained(store, DKT, by_heart=False)
    _, version = release(home, weights, "private")
    active = store.active_model("dkt")
    assert active is not None
    assert active.version == version
    assert version not in store.blocked_models()


def test_the_coordinator_gets_the_same_receipt_byte_for_byte_whatever_becomes_of_the_model(
    home, by_heart, store
):
    blocked, version = release(home, by_heart, "either-way")
    assert version in store.blocked_models()
    served, same = release(with_limit(home, None), by_heart, "either-way")
    assert same == version
    assert version not in store.blocked_models()
    assert store.active_model("dkt").version == version
    assert blocked == served
    unpack(served, Receipt)


def test_an_examination_that_fails_changes_no_byte_of_the_receipt(
    home, by_heart, store, monkeypatch, caplog
):
    """As when a history is too long for the memory that is left."""

    def too_much(*_: object) -> None:
        raise MemoryError(DKT.kind * 2)

    whole, _ = release(home, by_heart, "examined")
    with monkeypatch.context() as patch:
        patch.setattr(Activation, "examine", too_much)
        failed, _ = release(home, by_heart, "examined")
    assert failed == whole
    assert "MemoryError" in caplog.text
    assert DKT.kind * 2 not in caplog.text, "what an error says may be a record"


def test_a_blocked_model_leaves_the_one_that_is_served_in_its_place(home, by_heart, store):
    weights = trained(store, DKT, by_heart=False)
    _, served = release(home, weights, "before")
    release(home, by_heart, "after")
    assert store.active_model("dkt").version == served


def test_the_reference_is_the_model_that_was_kept_before(home, by_heart, store):
    weights = trained(store, DKT, by_heart=False)
    _, earlier = release(home, weights, "first")
    _, version = release(home, by_heart, "second")
    assert store.kept_before(store.model_version(version)).version == earlier


def test_learners_who_opted_out_are_not_read(tmp_path: Path):
    home = make_home(tmp_path / "oak")
    with home.store() as store, home.personal_chain() as chain:
        weights = trained(store, DKT, by_heart=True)
        for learner in dict.fromkeys(row.learner for row in everybody()):
            wishes.opt_out(chain, store, learner)
        _, version = release(home, weights, "alone")
        assert store.active_model("dkt").version == version, "nobody is there to compare with"


def test_a_model_that_was_kept_by_a_process_that_ended_is_decided_about_by_the_next(home, store):
    activation = Activation(store, home.curriculum, home.config.policy)
    plan = plan_of("left")
    weights = {"dkt": trained(store, DKT, by_heart=False)}
    activation.keep(Release(plan=plan, round=1), weights)
    (version,) = store.released(plan.digest, 1)
    assert "not examined yet" in store.blocked_models()[version.version]
    node_from_home(home)
    assert store.active_model("dkt").version == version.version
    assert version.version not in store.blocked_models()


def test_a_release_that_is_sent_again_leaves_its_model_in_service(home, store):
    weights = trained(store, DKT, by_heart=False)
    answers = {release(home, weights, "again") for _ in range(2)}
    assert len(answers) == 1
    assert store.active_model("dkt").version not in store.blocked_models()
