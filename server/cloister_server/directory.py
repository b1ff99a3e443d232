"""The consortium's nodes: whose keys were approved, who waits for that, who was shut out."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, Field

from cloister_server.locked_document import LockedDocument
from cloister_shared.errors import PolicyError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.frozen import Frozen


class Standing(StrEnum):
    """What a node may do."""

    PENDING = "pending"
    APPROVED = "approved"
    REVOKED = "revoked"


class Member(Frozen):
    """One node: its keys, and what it said of itself when it joined.

    ``transport_key`` is its public P-384 key (PEM, SubjectPublicKeyInfo), which Flower's requests
    are authenticated with; ``signing_key`` its public Ed25519 key (hex), which its replies are
    signed with.
    """

    name: str
    transport_key: str
    signing_key: str
    declared_size: int = Field(ge=1)
    release: str
    standing: Standing
    since: AwareDatetime

    @property
    def fingerprint(self) -> str:
        """What its administrator reads to the operator before it is approved."""
        return node_fingerprint(self.signing_key, self.transport_key)


class _Members(Frozen):
    nodes: dict[str, Member] = Field(default_factory=dict)

    def with_one(self, member: Member) -> "_Members":
        return _Members(nodes={**self.nodes, member.name: member})


class Directory:
    """All members, in the file ``path``. Changes by other processes are seen at once."""

    def __init__(self, path: Path) -> None:
        self._document = LockedDocument(path, _Members())
        self._by_key: tuple[_Members, dict[bytes, Member]] = (_Members(), {})

    def members(self) -> tuple[Member, ...]:
        """Everybody, by name."""
        nodes = self._document.read().nodes
        return tuple(nodes[name] for name in sorted(nodes))

    def approved(self) -> dict[str, Member]:
        """Those that take part, by name."""
        return {one.name: one for one in self.members() if one.standing is Standing.APPROVED}

    def get(self, name: str) -> Member | None:
        """The member called so."""
        return self._document.read().nodes.get(name)

    def by_transport_key(self, key: bytes) -> Member | None:
        """The approved member whose transport key (PEM) this is, to the byte."""
        members = self._document.read()
        if members is not self._by_key[0]:
            approved = [one for one in members.nodes.values() if one.standing is Standing.APPROVED]
            self._by_key = (members, {one.transport_key.encode(): one for one in approved})
        return self._by_key[1].get(key)

    def by_signing_key(self, key: str) -> Member | None:
        """The member, whatever its standing, whose signing key this is."""
        return next((one for one in self.members() if one.signing_key == key), None)

    def add(self, member: Member) -> Member:
        """Keep a member that has joined; raises ``PolicyError`` if its keys or name are taken.

        A name stays with its signing key for ever: so does the privacy ledger of that node.
        """

        def change(members: _Members) -> _Members:
            _require_free(members, member)
            return members.with_one(member)

        return self._document.change(change).nodes[member.name]

    def approve(self, name: str) -> Member:
        """Let the pending member ``name`` take part."""
        return self._set(name, Standing.APPROVED, {Standing.PENDING, Standing.APPROVED})

    def revoke(self, name: str) -> Member:
        """Shut the member ``name`` out, at once; to come back it must be invited again."""
        return self._set(name, Standing.REVOKED, set(Standing))

    def _set(self, name: str, standing: Standing, from_standings: set[Standing]) -> Member:
        def change(members: _Members) -> _Members:
            member = members.nodes.get(name)
            if member is None:
                raise PolicyError(
                    f"no node called {name} has joined; see cloister coordinator nodes list", "node"
                )
            if member.standing not in from_standings:
                raise PolicyError(f"{name} was revoked; invite it again", "node")
            if member.standing is standing:
                return members
            now = datetime.now(UTC)
            return members.with_one(member.model_copy(update={"standing": standing, "since": now}))

        return self._document.change(change).nodes[name]


def _require_free(members: _Members, new: Member) -> None:
    there = members.nodes.get(new.name)
    if there is not None and there.standing is Standing.APPROVED:
        raise PolicyError(f"{new.name} is a member already; revoke it first", "node")
    if there is not None and there.signing_key != new.signing_key:
        raise PolicyError(
            f"{new.name} has joined with another signing key before, and its privacy ledger "
            "belongs to that key; invite it under a new name",
            "node",
        )
    others = [one for one in members.nodes.values() if one.name != new.name]
    if any(
        one.signing_key == new.signing_key or one.transport_key == new.transport_key
        for one in others
    ):
        raise PolicyError(
            f"the keys of {new.name} belong to another node of the consortium", "node"
        )
