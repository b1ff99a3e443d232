"""The directory: who takes part is decided by the operator, and holds at once."""

from pathlib import Path

import pytest
from tests.server.members import member

from cloister_server.directory import Directory, Member
from cloister_shared.errors import ConfigError, PolicyError
from cloister_shared.kit import Standing


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "nodes.json")


def _key(one: Member) -> bytes:
    return one.transport_key.encode()


def test_who_joined_takes_part_once_approved(directory: Directory) -> None:
    oak = directory.add(member("oak"))
    assert directory.by_transport_key(_key(oak)) is None
    approved = directory.approve("oak")
    assert directory.by_transport_key(_key(oak)) == approved
    assert directory.approved() == {"oak": approved}


def test_a_revoked_node_is_shut_out_at_once(directory: Directory, tmp_path: Path) -> None:
    oak = directory.add(member("oak"))
    directory.approve("oak")
    guard = Directory(tmp_path / "nodes.json")
    assert guard.by_transport_key(_key(oak)) is not None
    directory.revoke("oak")
    assert guard.by_transport_key(_key(oak)) is None
    with pytest.raises(PolicyError, match="was revoked; invite it again"):
        directory.approve("oak")


def test_a_revoked_node_may_join_again_with_its_signing_key(directory: Directory) -> None:
    directory.add(member("oak"))
    oak = directory.approve("oak")
    directory.revoke("oak")
    with pytest.raises(PolicyError, match="took part with another signing key before"):
        directory.add(member("oak"))
    fresh = {"signing_key": oak.signing_key, "approved": oak.approved}
    directory.add(member("oak").model_copy(update=fresh))
    assert directory.approve("oak").approved == oak.approved


def test_who_was_never_approved_has_no_claim_to_a_name(directory: Directory) -> None:
    directory.add(member("oak"))
    assert directory.revoke("oak").standing is Standing.REVOKED
    assert directory.members() == ()
    directory.add(member("oak"))


def test_nobody_takes_a_members_name_or_keys(directory: Directory) -> None:
    oak = directory.add(member("oak"))
    directory.approve("oak")
    with pytest.raises(PolicyError, match="oak is a member already; revoke it first"):
        directory.add(member("oak"))
    for field in ("transport_key", "signing_key"):
        thief = member("elm").model_copy(update={field: getattr(oak, field)})
        with pytest.raises(PolicyError, match="belong to another node"):
            directory.add(thief)
    assert [one.name for one in directory.members()] == ["oak"]


def test_a_name_that_never_joined_is_named(directory: Directory) -> None:
    for change in (directory.approve, directory.revoke):
        with pytest.raises(PolicyError, match="no node called elm has joined"):
            change("elm")


def test_a_broken_file_is_never_made_anew(directory: Directory, tmp_path: Path) -> None:
    directory.add(member("oak"))
    (tmp_path / "nodes.json").write_text("{")
    for attempt in (directory.members, lambda: directory.add(member("elm"))):
        with pytest.raises(ConfigError, match="cannot be read; restore it from a backup"):
            attempt()
    assert (tmp_path / "nodes.json").read_text() == "{"
