"""Joining: over real TLS, and nothing is made or sent before the coordinator is known."""

import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from tests.listening import listening, serving

from cloister_client.config import NodeConfig
from cloister_client.coordinator_link import CoordinatorLink
from cloister_client.custody.backup import back_up
from cloister_client.custody.restore import restore
from cloister_client.home import NodeHome
from cloister_client.joining import join
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, PolicyError, ServiceError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.kit import SignedKit, Standing
from cloister_shared.messages import MAX_SERIAL
from cloister_shared.model_specs import parse_spec
from cloister_shared.signing import SigningKey


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    curriculum = Curriculum.model_validate(
        {"name": "c", "skills": [{"id": "a"}], "items": [{"id": "i", "skills": ["a"]}]}
    )
    with listening(tmp_path_factory.mktemp("consortium") / "home", curriculum) as home:
        yield home


@pytest.fixture
def kit(coordinator: CoordinatorHome) -> SignedKit:
    """A kit for a node that was never heard of before."""
    return Invitations(coordinator).issue(f"school-{secrets.token_hex(4)}")


@pytest.fixture
def config(tmp_path: Path, kit: SignedKit) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(f"name: {kit.kit.node}\ndeclared_size: 500\n")
    return path


def test_one_command_makes_a_node_and_joins(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    answer = join(kit, coordinator.fingerprint, tmp_path / "node", config)
    assert (answer.standing, answer.declared_size) == (Standing.PENDING, 500)
    home = NodeHome.open(tmp_path / "node")
    assert home.curriculum == coordinator.curriculum
    assert home.witness() == coordinator.signing_key().public
    link = home.coordinator()
    assert link is not None
    assert link.fingerprint == coordinator.fingerprint
    assert kit.kit.token not in (home.path / "coordinator.json").read_text()
    member = coordinator.directory().get(kit.kit.node)
    assert member is not None
    assert member.fingerprint == node_fingerprint(
        home.signing_key().public, home.transport_public_key()
    )


def test_a_node_that_was_there_before_joins_with_its_keys(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path
) -> None:
    settings = NodeConfig(name=kit.kit.node, declared_size=70)
    home = NodeHome.create(tmp_path / "node", settings, coordinator.curriculum)
    join(kit, coordinator.fingerprint, home.path, None)
    assert coordinator.directory().by_signing_key(home.signing_key().public) is not None


def test_joining_again_changes_nothing(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    first = join(kit, coordinator.fingerprint, tmp_path / "node", config)
    key = NodeHome.open(tmp_path / "node").transport_public_key()
    assert join(kit, coordinator.fingerprint, tmp_path / "node", config) == first
    assert NodeHome.open(tmp_path / "node").transport_public_key() == key


def test_a_fingerprint_that_does_not_fit_stops_the_join_before_anything_is_sent(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    other = kit.kit.model_copy(update={"coordinator_key": SigningKey.generate().public})
    with pytest.raises(PolicyError, match="is not that of the coordinator: nothing was done"):
        join(kit, other.fingerprint, tmp_path / "node", config)
    assert not (tmp_path / "node").exists()
    assert kit.kit.node in Invitations(coordinator).open()


def test_an_expired_kit_is_refused_before_anything_is_made(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    past = kit.kit.model_copy(update={"expires": kit.kit.expires.replace(year=2020)})
    old = SignedKit.sign(past, coordinator.signing_key())
    with pytest.raises(PolicyError, match="this kit expired on 2020"):
        join(old, coordinator.fingerprint, tmp_path / "node", config)
    assert not (tmp_path / "node").exists()


def test_the_private_keys_never_leave_the_school(
    coordinator: CoordinatorHome,
    kit: SignedKit,
    tmp_path: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[bytes] = []
    stream = httpx.Client.stream

    def heard(client: httpx.Client, method: str, url: str, content: bytes):
        sent.append(content)
        return stream(client, method, url, content=content)

    monkeypatch.setattr(httpx.Client, "stream", heard)
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    (body,) = sent
    home = NodeHome.open(tmp_path / "node")
    scalar = home.transport_key().private_numbers().private_value
    for secret in (home.signing_key().to_bytes(), scalar.to_bytes(48, "big")):
        assert secret not in body
        assert secret.hex().encode() not in body
    assert b"PRIVATE" not in body
    assert json.loads(body)["request"].keys() == {
        "type",
        "node",
        "token",
        "transport_key",
        "signing_key",
        "declared_size",
        "release",
    }


def test_a_kit_that_was_used_elsewhere_says_so(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    join(kit, coordinator.fingerprint, tmp_path / "thief", config)
    with pytest.raises(PolicyError, match="was used before, with other keys: if that was not you"):
        join(kit, coordinator.fingerprint, tmp_path / "node", config)
    assert NodeHome.open(tmp_path / "node").coordinator() is None


def test_a_listener_of_another_authority_is_told_nothing(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    impostor = CoordinatorHome.create(
        tmp_path / "impostor", coordinator.config, coordinator.curriculum
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(impostor, listener):
        elsewhere = kit.kit.model_copy(update={"port": listener.getsockname()[1]})
        redirected = SignedKit.sign(elsewhere, coordinator.signing_key())
        with pytest.raises(ServiceError, match="CERTIFICATE_VERIFY_FAILED"):
            join(redirected, coordinator.fingerprint, tmp_path / "node", config)
    assert not (impostor.path / "invitations.json").exists()


def test_a_coordinator_that_is_away_is_named_and_the_same_command_goes_on(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    away = SignedKit.sign(kit.kit.model_copy(update={"port": free}), coordinator.signing_key())
    with pytest.raises(ServiceError, match=r"cannot be asked .* nothing is lost"):
        join(away, coordinator.fingerprint, tmp_path / "node", config)
    answer = join(kit, coordinator.fingerprint, tmp_path / "node", None)
    assert answer.standing is Standing.PENDING


def test_a_kit_of_another_name_or_curriculum_is_refused(
    coordinator: CoordinatorHome,
    kit: SignedKit,
    tmp_path: Path,
    config: Path,
    curriculum: Curriculum,
) -> None:
    with pytest.raises(ConfigError, match=r"is no node's home yet: give .* --config"):
        join(kit, coordinator.fingerprint, tmp_path / "node", None)
    named = config.read_text().replace(kit.kit.node, "elm")
    config.write_text(named)
    with pytest.raises(ConfigError, match=r"the kit is for a node called .* says elm"):
        join(kit, coordinator.fingerprint, tmp_path / "node", config)
    settings = NodeConfig(name=kit.kit.node, declared_size=70)
    home = NodeHome.create(tmp_path / "other", settings, curriculum)
    with pytest.raises(ConfigError, match=r"has another curriculum \(fractions v1\)"):
        join(kit, coordinator.fingerprint, home.path, None)
    assert kit.kit.node in Invitations(coordinator).open()


def test_a_node_takes_part_in_one_consortium(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    other = CoordinatorHome.create(tmp_path / "other", coordinator.config, coordinator.curriculum)
    again = Invitations(other).issue(kit.kit.node)
    with pytest.raises(ConfigError, match=r"coordinator\.json names another coordinator's key"):
        join(again, other.fingerprint, tmp_path / "node", None)


def test_a_coordinator_that_the_config_does_not_name_is_refused(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    home = NodeHome.create(
        tmp_path / "node",
        NodeConfig(name=kit.kit.node, declared_size=500, coordinator_key="0" * 64),
        coordinator.curriculum,
    )
    with pytest.raises(ConfigError, match=r"node\.yaml names another coordinator's key"):
        join(kit, coordinator.fingerprint, home.path, None)
    assert home.witness() == "0" * 64


def test_a_backup_brings_the_membership_along(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    home = NodeHome.open(tmp_path / "node")
    back_up(home, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    restored = NodeHome.open(tmp_path / "restored")
    assert restored.coordinator() == home.coordinator()
    assert restored.transport_public_key() == home.transport_public_key()


def _take(home: NodeHome, serial: int) -> None:
    """Keep a release of this serial."""
    spec = parse_spec({"kind": "dkt", "skills": 1, "hidden": 2})
    weights = spec.initial_weights(home.curriculum, seed=1)
    with home.store() as store:
        store.add_release([(spec, weights)], "0" * 64, 1, serial)


def test_a_coordinator_made_anew_is_followed_whatever_serials_the_key_before_it_signed(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path
) -> None:
    """Who has a key in hand may use up its serials, to the last."""
    settings = NodeConfig(name=kit.kit.node, declared_size=70)
    home = NodeHome.create(tmp_path / "node", settings, coordinator.curriculum)
    link = CoordinatorLink.of(kit.kit)
    home.pin(link.model_copy(update={"key": SigningKey.generate().public}))
    _take(home, MAX_SERIAL)
    (home.path / "coordinator.json").unlink()
    home.pin(link)
    _take(home, 7)


def test_joining_again_brings_no_older_release_back(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path, config: Path
) -> None:
    join(kit, coordinator.fingerprint, tmp_path / "node", config)
    home = NodeHome.open(tmp_path / "node")
    _take(home, 8)
    join(kit, coordinator.fingerprint, home.path, None)
    with pytest.raises(PolicyError, match="a later release was kept before"):
        _take(home, 7)


def test_what_was_pinned_is_never_made_anew(
    coordinator: CoordinatorHome, kit: SignedKit, tmp_path: Path
) -> None:
    path = tmp_path / "coordinator.json"
    CoordinatorLink.of(kit.kit).save(path)
    altered = yaml.safe_load(path.read_text())
    altered["authority"] = "nobody"
    path.write_text(json.dumps(altered))
    with pytest.raises(ConfigError, match="cannot be read; restore it, or delete it and join"):
        CoordinatorLink.load(path)
