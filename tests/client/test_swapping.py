"""A model takes over from an older one without anybody noticing, and back again if it must."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from cloister_client.activation import PENDING, SUPERSEDED, Activation
from cloister_client.app import node_from_home
from cloister_client.home import LOGS, MODELS, STORE, NodeHome
from cloister_client.personalization import Personalization
from cloister_client.store import Store
from cloister_client.swapping import LEARNERS, Chores, Steps
from cloister_shared.errors import PolicyError, ServiceError
from cloister_shared.journal import read
from cloister_shared.messages import Receipt, Refusal, Release, join, pack, unpack
from cloister_shared.model_manifest import (
    Manifest,
    SignedManifest,
    sha256_of,
    weights_document,
)
from cloister_shared.model_specs import Weights
from cloister_shared.signing import SigningKey

from .memorized import CURRICULUM, DKT, everybody, make_home, plan_of, with_limit

COORDINATOR = SigningKey.generate()
LEARNER = "learner 0"


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = with_limit(make_home(tmp_path / "oak"), None)
    config = home.config.model_copy(update={"coordinator_key": COORDINATOR.public})
    return replace(home, config=config)


@pytest.fixture
def store(home: NodeHome) -> Iterator[Store]:
    with home.store() as store:
        yield store


@pytest.fixture
def service(store: Store) -> Personalization:
    return Personalization(store, CURRICULUM)


def weights_of(run: str) -> Weights:
    return DKT.initial_weights(CURRICULUM, seed=len(run))


def message(
    run: str, key: SigningKey = COORDINATOR, sent: Weights | None = None, serial: int = 1
) -> bytes:
    """A version as the coordinator's registry sends it."""
    plan = plan_of(run)
    manifest = Manifest(
        spec=DKT,
        weights=sha256_of(weights_document(weights_of(run))),
        plan=plan.digest,
        round=1,
        run=run,
        participants=("a" * 16,),
        created=datetime.now(UTC),
    )
    manifests = (SignedManifest.sign(manifest, key),)
    release = Release(plan=plan, round=1, serial=serial, manifests=manifests)
    return pack(release, join({"dkt": sent or weights_of(run)}))


def version_of(body: bytes) -> str:
    return unpack(body, Release)[0].manifests[0].manifest.version


def give(home: NodeHome, run: str, serial: int = 1) -> str:
    """Have the node take a version over, at once; its name."""
    body = message(run, serial=serial)
    unpack(node_from_home(home).answer_release(body), Receipt)
    return version_of(body)


def damage(home: NodeHome, version: str) -> None:
    """One bit of the weights on disk."""
    engine = create_engine(f"sqlite:///{home.path / STORE}")
    with engine.begin() as connection:
        where = {"version": version}
        query = "SELECT weights FROM model_versions WHERE version = :version"
        content = bytearray(connection.execute(text(query), where).scalar_one())
        content[-1] ^= 1
        update = "UPDATE model_versions SET weights = :weights WHERE version = :version"
        connection.execute(text(update), {**where, "weights": bytes(content)})
    engine.dispose()


def test_a_version_has_one_name_at_coordinator_and_node(home, store) -> None:
    version = give(home, "autumn")
    assert store.active_version("dkt") == version


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (message("autumn", key=SigningKey.generate()), "signature"),
        (message("autumn", sent=weights_of("other")), "weights"),
    ],
    ids=["another coordinator's", "other weights"],
)
def test_a_version_that_the_coordinator_did_not_sign_is_not_kept(home, store, body, code) -> None:
    refusal, _ = unpack(node_from_home(home).answer_release(body), Refusal)
    assert refusal.code == code
    assert store.counts().model_versions == 0


def test_the_old_version_serves_until_states_are_rebuilt(home, store, service) -> None:
    old = give(home, "autumn")
    asked: list[Steps] = []
    body = message("next-term")
    unpack(node_from_home(home, asked.append).answer_release(body), Receipt)
    new, everyone = version_of(body), store.learners("serve")
    work = asked[-1]()
    served = []
    for _ in work:
        served.append(service.mastery(LEARNER).model)
    assert len(served) > len(everyone) / LEARNERS
    assert set(served) == {old}
    assert service.mastery(LEARNER).model == new
    assert all(store.load_state(one, new) is not None for one in everyone)


def test_promote_swaps_while_answers_are_asked_for(home, store, service) -> None:
    old = give(home, "autumn")
    seen: list[list[str]] = [[] for _ in range(3)]
    over = threading.Event()

    def ask(mine: list[str]) -> None:
        while not over.is_set():
            mine.append(service.mastery(LEARNER).model)
            mine.append(service.answer("newcomer", "i1", True, 1e9, str(len(mine))).stored and "")

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    new = give(home, "next-term")
    while not all(mine and mine[-2] == new for mine in seen):
        over.wait(0.01)
    over.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for mine in seen:
        versions = [one for one in mine if one]
        assert versions == sorted(versions, key=[old, new].index), "never back to the old one"


def test_a_node_falls_back_to_its_last_good_version(home, store, service, caplog) -> None:
    good = give(home, "autumn")
    bad = give(home, "next-term")
    damage(home, bad)
    assert Personalization(store, CURRICULUM).mastery(LEARNER).model == good
    assert "altered" in store.blocked_models()[bad]
    assert service.mastery(LEARNER).model == good
    assert LEARNER not in caplog.text


def test_a_damaged_version_before_is_passed_over(home, store) -> None:
    first, second, third = (give(home, run) for run in ("a", "bb", "ccc"))
    for version in (second, third):
        damage(home, version)
    assert Personalization(store, CURRICULUM).mastery(LEARNER).model == first


def test_without_a_good_version_the_node_says_what_is_wrong(home, store) -> None:
    damage(home, give(home, "autumn"))
    with pytest.raises(Exception, match="altered"):
        Personalization(store, CURRICULUM).mastery(LEARNER)
    with pytest.raises(ServiceError, match="no active knowledge tracer"):
        Personalization(store, CURRICULUM).mastery(LEARNER)


def test_a_model_that_says_nothing_sensible_never_serves(home, store) -> None:
    old = give(home, "autumn")
    activation = Activation(store, CURRICULUM, home.config.policy)
    signs = np.random.default_rng(1).choice([-3e38, 3e38], 10_000).astype(np.float32)
    wild = {name: np.resize(signs, array.shape) for name, array in weights_of("autumn").items()}
    plan = plan_of("wild")
    activation.keep(Release(plan=plan, round=1, serial=1), {"dkt": wild})
    with np.errstate(all="ignore"):
        list(activation.steps())
    (version,) = store.released(plan.digest, 1)
    assert "no probabilities" in store.blocked_models()[version.version]
    assert store.active_version("dkt") == old


def test_a_rollback_serves_the_older_version_again(home, store) -> None:
    old, new = give(home, "autumn"), give(home, "next-term")
    assert store.active_version("dkt") == new
    assert give(home, "autumn") == old
    assert store.active_version("dkt") == old


def test_states_of_older_versions_are_forgotten_and_rebuilt_before_they_serve_again(
    home, store, service
) -> None:
    learner = store.pseudonym(LEARNER)
    first = give(home, "a")
    then = service.mastery(LEARNER)
    others = [give(home, run) for run in ("bb", "ccc")]
    assert store.load_state(learner, first) is None
    assert all(store.load_state(learner, one) is not None for one in others)
    assert give(home, "a") == first
    everyone = store.learners("serve")
    assert all(store.load_state(one, first) is not None for one in everyone)
    assert service.mastery(LEARNER) == then


def test_the_journal_says_which_version_serves_since_when(home, store, service) -> None:
    good, bad = give(home, "autumn"), give(home, "next-term")
    damage(home, bad)
    assert Personalization(store, CURRICULUM).mastery(LEARNER).model == good
    said = read(home.path / LOGS / MODELS, 9)
    assert [(one["action"], one["version"]) for one in said] == [
        ("serving", good),
        ("serving", bad),
        ("withdrawn", bad),
        ("serving", good),
    ]
    assert {tuple(one) for one in said} == {("time", "event", "action", "model", "version")}


def test_an_old_release_that_is_sent_again_is_refused_and_the_newer_one_serves_on(
    home, store
) -> None:
    first, second = message("autumn", serial=7), message("next-term", serial=8)
    for body in (first, second):
        unpack(node_from_home(home).answer_release(body), Receipt)
    refusal, _ = unpack(node_from_home(home).answer_release(first), Refusal)
    assert refusal.code == "old_release"
    assert store.active_version("dkt") == version_of(second)
    assert store.blocked_models() == {}


def test_an_old_release_does_not_take_the_place_of_one_that_still_waits(home, store) -> None:
    asked: list[Steps] = []
    node = node_from_home(home, asked.append)
    waiting = message("next-term", serial=8)
    unpack(node.answer_release(waiting), Receipt)
    refusal, _ = unpack(node.answer_release(message("autumn", serial=7)), Refusal)
    assert refusal.code == "old_release"
    list(asked[-1]())
    assert store.active_version("dkt") == version_of(waiting)


def test_the_same_release_may_come_again(home, store) -> None:
    assert give(home, "autumn", serial=7) == give(home, "autumn", serial=7)
    assert store.active_version("dkt") == version_of(message("autumn"))


def test_the_operator_goes_back_by_a_later_choice_of_the_older_version(home, store) -> None:
    old = give(home, "autumn", serial=7)
    give(home, "next-term", serial=8)
    assert give(home, "autumn", serial=9) == old
    assert store.active_version("dkt") == old


def test_of_two_versions_that_wait_the_later_one_serves(home, store) -> None:
    asked: list[Steps] = []
    node = node_from_home(home, asked.append)
    bodies = [message("autumn"), message("next-term"), message("autumn")]
    for body in bodies:
        unpack(node.answer_release(body), Receipt)
    blocked = store.blocked_models()
    assert blocked[version_of(bodies[0])] == PENDING
    assert blocked[version_of(bodies[1])] == SUPERSEDED
    list(asked[-1]())
    assert store.active_version("dkt") == version_of(bodies[0])


def test_a_version_that_another_replaces_meanwhile_does_not_take_over(home, store) -> None:
    asked: list[Steps] = []
    node = node_from_home(home, asked.append)
    node.answer_release(message("autumn"))
    work = asked[-1]()
    next(work)
    node.answer_release(message("next-term"))
    list(work)
    assert store.active_version("dkt") is None
    list(asked[-1]())
    assert store.active_version("dkt") == version_of(message("next-term"))


def test_chores_are_done_piece_by_piece_and_one_that_fails_harms_nobody(caplog) -> None:
    done: list[int] = []

    def steps() -> Iterator[None]:
        for number in range(3):
            done.append(number)
            yield

    def broken() -> Iterator[None]:
        yield
        raise MemoryError(everybody()[0].learner)

    chores = Chores()
    assert not chores.do_one()
    chores.put(steps)
    chores.do_one()
    assert done == [0]
    while chores.do_one():
        pass
    assert done == [0, 1, 2]
    chores.put(broken)
    while chores.do_one():
        pass
    assert "MemoryError" in caplog.text
    assert everybody()[0].learner not in caplog.text
    chores.put(steps)
    assert chores.do_one()


def test_a_manifest_of_another_run_is_no_release(home) -> None:
    release, arrays = unpack(message("autumn"), Release)
    other, _ = unpack(message("winter"), Release)
    mixed = pack(release.model_copy(update={"manifests": other.manifests}), arrays)
    refusal, _ = unpack(node_from_home(home).answer_release(mixed), Refusal)
    assert refusal.code == "message"


def test_a_manifest_bears_no_other_name() -> None:
    signed = unpack(message("autumn"), Release)[0].manifests[0]
    renamed = signed.model_copy(
        update={"manifest": signed.manifest.model_copy(update={"run": "winter"})}
    )
    with pytest.raises(PolicyError, match="not signed by the coordinator"):
        renamed.check(weights_of("autumn"), COORDINATOR.public)
