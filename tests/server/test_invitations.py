"""Invitations: a kit is good for one node, once, for a time; a second use is shown."""

from pathlib import Path

import pytest
from tests.server.conftest import CURRICULUM
from tests.server.joining import request_with

from cloister_server.config import CoordinatorConfig
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_shared.errors import PolicyError
from cloister_shared.journal import Event, read
from cloister_shared.kit import Standing

CONFIG = CoordinatorConfig(consortium="north", address="127.0.0.1")


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return CoordinatorHome.create(tmp_path / "coordinator", CONFIG, CURRICULUM)


@pytest.fixture
def invitations(home: CoordinatorHome) -> Invitations:
    return Invitations(home)


def test_a_kit_names_the_coordinator_and_holds_no_private_key(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    signed = invitations.issue("oak")
    assert signed.kit.fingerprint == home.fingerprint
    assert signed.kit.curriculum == CURRICULUM
    text = signed.model_dump_json()
    assert "PRIVATE" not in text
    for name in ("signing.key", "ca.key", "tls.key", "superexec.secret", "control.secret"):
        secret = (home.keys / name).read_bytes()
        assert secret.hex() not in text
        assert secret not in text.encode()


def test_the_coordinator_keeps_no_token(home: CoordinatorHome, invitations: Invitations) -> None:
    token = invitations.issue("oak").kit.token
    assert token not in (home.path / "invitations.json").read_text()


def test_who_uses_a_kit_waits_to_be_approved(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    request = request_with(invitations.issue("oak"))
    assert invitations.open().keys() == {"oak"}
    member = invitations.redeem(request, "10.0.0.1")
    assert (member.standing, member.signing_key) == (Standing.PENDING, request.signing_key)
    assert home.directory().members() == (member,)
    assert invitations.open() == {}


def test_a_lost_answer_is_given_again(home: CoordinatorHome, invitations: Invitations) -> None:
    request = request_with(invitations.issue("oak"))
    invitations.redeem(request, "10.0.0.1")
    home.directory().approve("oak")
    assert invitations.redeem(request, "10.0.0.2").standing is Standing.APPROVED
    assert len(invitations.uses("oak")[0]) == 1


def test_a_stolen_kit_used_twice_is_refused_and_shown(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    signed = invitations.issue("oak")
    thief = invitations.redeem(request_with(signed), "203.0.113.9")
    for _ in range(2):
        with pytest.raises(PolicyError, match="was used before, with other keys"):
            invitations.redeem(request_with(signed), "10.0.0.1")
    uses = invitations.uses("oak")[0]
    assert [use.address for use in uses] == ["203.0.113.9", "10.0.0.1", "10.0.0.1"]
    assert uses[0].fingerprint == thief.fingerprint
    assert home.directory().members() == (thief,)


def test_whoever_asks_for_ever_leaves_as_many_lines_as_the_operator_is_shown_uses(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    """More would push out of the journal who joined, and who was approved."""
    signed = invitations.issue("oak")
    request = request_with(signed)
    for _ in range(3):
        invitations.redeem(request, "10.0.0.1")
    for _ in range(25):
        with pytest.raises(PolicyError, match="was used before"):
            invitations.redeem(request_with(signed), "203.0.113.9")
    events = [one["event"] for one in read(home.logs / "nodes.jsonl", 100)]
    assert events == [Event.JOINED, *[Event.KIT_REUSED] * 19]
    assert len(invitations.uses("oak")[0]) == len(events)


def test_whose_kit_was_stolen_joins_with_a_new_one_under_its_name(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    stolen = request_with(invitations.issue("oak"))
    invitations.redeem(stolen, "203.0.113.9")
    home.directory().revoke("oak")
    school = invitations.redeem(request_with(invitations.issue("oak")), "10.0.0.1")
    assert home.directory().members() == (school,)
    with pytest.raises(PolicyError, match="the operator has removed who joined with this kit"):
        invitations.redeem(stolen, "203.0.113.9")


def test_a_revoked_node_does_not_come_back_with_its_old_kit(
    home: CoordinatorHome, invitations: Invitations
) -> None:
    request = request_with(invitations.issue("oak"))
    invitations.redeem(request, "10.0.0.1")
    home.directory().approve("oak")
    home.directory().revoke("oak")
    assert invitations.redeem(request, "10.0.0.1").standing is Standing.REVOKED
    again = request.model_copy(update={"token": invitations.issue("oak").kit.token})
    assert invitations.redeem(again, "10.0.0.1").standing is Standing.PENDING


def test_an_expired_kit_is_refused(home: CoordinatorHome) -> None:
    brief = CONFIG.model_copy(update={"invitation_days": 1e-9})
    invitations = Invitations(CoordinatorHome(home.path, brief, CURRICULUM))
    signed = invitations.issue("oak")
    with pytest.raises(PolicyError, match="this kit has expired"):
        invitations.redeem(request_with(signed), "10.0.0.1")
    with pytest.raises(PolicyError, match=r"this kit expired on .* ask the operator"):
        signed.require_in_time()
    assert home.directory().members() == ()


def test_only_the_newest_unused_kit_of_a_name_counts(invitations: Invitations) -> None:
    older = invitations.issue("oak")
    invitations.redeem(request_with(invitations.issue("elm")), "10.0.0.1")
    newer = invitations.issue("oak")
    with pytest.raises(PolicyError, match="a newer one has replaced it"):
        invitations.redeem(request_with(older), "10.0.0.1")
    invitations.redeem(request_with(newer), "10.0.0.1")


def test_a_kit_is_for_the_node_that_it_names(invitations: Invitations) -> None:
    signed = invitations.issue("oak")
    with pytest.raises(PolicyError, match="no kit with this token was given out for elm"):
        invitations.redeem(request_with(signed, node="elm"), "10.0.0.1")
    assert invitations.uses("oak") == ()


def test_a_member_is_not_invited_again(home: CoordinatorHome, invitations: Invitations) -> None:
    invitations.redeem(request_with(invitations.issue("oak")), "10.0.0.1")
    home.directory().approve("oak")
    with pytest.raises(PolicyError, match="oak is a member already; revoke it first"):
        invitations.issue("oak")
