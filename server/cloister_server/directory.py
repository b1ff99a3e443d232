"""The consortium's nodes: whose keys were approved, who waits for that, who was shut out."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, Field

from cloister_server.locked_document import LockedDocument
from cloister_shared.errors import PolicyError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.frozen import Frozen
from cloister_shared.kit import PublicName, Standing


class Member(Frozen):
    """One node: its keys, and what it said of itself when it joined.

    ``transport_key`` is its public P-384 key (PEM, SubjectPublicKeyInfo), which Flower's requests
    are authenticated with; ``signing_key`` its public Ed25519 key (hex), which its replies are
    signed with. ``since`` says from when on it has its standing, ``approved`` when it was approved
    for the first time.
    """

    name: PublicName
    transport_key: str
    signing_key: str
    declared_size: int = Field(ge=1)
    release: str
    standing: Standing
    since: AwareDatetime
    approved: AwareDatetime | None = None

    @property
    def fingerprint(self) -> str:
        """What its administrator reads to the operator before it is approved."""
        return node_fingerprint(self.signing_key, self.transport_key)


class _Members(Frozen):
    nodes: dict[str, Member] = Field(default_factory=dict)

    def with_one(self, member: Member) -> "_Members":
        return _Members(nodes={**self.nodes, member.name: member})

    def without(self, name: str) -> "_Members":
        return _Members(nodes={key: one for key, one in self.nodes.items() if key != name})

    def require(self, name: str) -> Member:
        if name not in self.nodes:
            raise PolicyError(
                f"no node called {name} has joined; see cloister coordinator nodes list", "node"
            )
        return self.nodes[name]


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

    def signing_key(self, name: str) -> str | None:
        """The signing key of the approved member called so."""
        member = self.get(name)
        if member is None or member.standing is not Standing.APPROVED:
            return None
        return member.signing_key

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

        Once approved, a name stays with its signing key for ever: so does that node's ledger.
        """

        def change(members: _Members) -> _Members:
            _require_free(members, member)
            return members.with_one(member)

        return self._document.change(change).nodes[member.name]

    def approve(self, name: str) -> Member:
        """Let the pending member ``name`` take part."""

        def change(members: _Members) -> _Members:
            member = members.require(name)
            if member.standing is Standing.REVOKED:
                raise PolicyError(f"{name} was revoked; invite it again", "node")
            if member.standing is Standing.APPROVED:
                return members
            return members.with_one(_from_now_on(member, Standing.APPROVED))

        return self._document.change(change).nodes[name]

    def revoke(self, name: str) -> Member:
        """Shut the member ``name`` out, at once; to come back it must be invited again.

        One that was never approved is forgotten: whoever it was has no claim to the name.
        """

        def change(members: _Members) -> _Members:
            member = members.require(name)
            if member.approved is None:
                return members.without(name)
            if member.standing is Standing.REVOKED:
                return members
            return members.with_one(_from_now_on(member, Standing.REVOKED))

        before = self._document.read().require(name)
        self._document.change(change)
        return self.get(name) or _from_now_on(before, Standing.REVOKED)


def _from_now_on(member: Member, standing: Standing) -> Member:
    now = datetime.now(UTC)
    first = now if standing is Standing.APPROVED else None
    changed = {"standing": standing, "since": now, "approved": member.approved or first}
    return member.model_copy(update=changed)


def _require_free(members: _Members, new: Member) -> None:
    there = members.nodes.get(new.name)
    if there is not None and there.standing is Standing.APPROVED:
        raise PolicyError(f"{new.name} is a member already; revoke it first", "node")
    took_part = there is not None and there.approved is not None
    if there is not None and took_part and there.signing_key != new.signing_key:
        raise PolicyError(
            f"{new.name} took part with another signing key before, and its privacy ledger "
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
