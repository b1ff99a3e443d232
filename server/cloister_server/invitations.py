"""Invitations: kits for schools, each good for one join, and who used them when.

Only the digest of a token is kept. Whoever uses a kit that was used already is refused, and both
uses are shown to the operator: one of the two has stolen it.
"""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, Field

from cloister_server.directory import Member
from cloister_server.home import INVITATIONS, CoordinatorHome
from cloister_server.locked_document import LockedDocument
from cloister_shared import __version__
from cloister_shared.errors import PolicyError
from cloister_shared.fingerprints import node_fingerprint
from cloister_shared.frozen import Frozen
from cloister_shared.journal import Event
from cloister_shared.kit import JoinRequest, Kit, SignedKit, Standing

_TOKEN_BYTES: Final = 32
_MOST_USES: Final = 20
"""Uses that are kept of one kit: somebody may try for ever."""


class Use(Frozen):
    """Somebody used a kit: when, from where, and the fingerprint of the keys they showed."""

    at: AwareDatetime
    address: str
    fingerprint: str


class Invitation(Frozen):
    """A kit that was given out for the node ``node``; the first of its ``uses`` joined."""

    node: str
    expires: AwareDatetime
    uses: tuple[Use, ...] = ()

    def used(self, use: Use) -> "Invitation":
        """With one more use; that the same keys come again is no further one."""
        known = any(one.fingerprint == use.fingerprint for one in self.uses)
        if known or len(self.uses) >= _MOST_USES:
            return self
        return self.model_copy(update={"uses": (*self.uses, use)})


class _Issued(Frozen):
    """Invitations by the SHA-256 of their token."""

    invitations: dict[str, Invitation] = Field(default_factory=dict)

    def with_one(self, token: str, invitation: Invitation) -> "_Issued":
        return _Issued(invitations={**self.invitations, token: invitation})


class Invitations:
    """All kits that the coordinator of ``home`` gave out."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._directory = home.directory()
        self._document = LockedDocument(home.path / INVITATIONS, _Issued())

    def issue(self, node: str) -> SignedKit:
        """A kit for ``node``; one that it had before and did not use is void from now on.

        Raises ``PolicyError`` if the node is a member.
        """
        member = self._directory.get(node)
        if member is not None and member.standing is Standing.APPROVED:
            raise PolicyError(f"{node} is a member already; revoke it first", "node")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expires = datetime.now(UTC) + timedelta(days=self._home.config.invitation_days)
        invitation = Invitation(node=node, expires=expires.replace(microsecond=0))
        kit = self._kit(invitation, token)
        self._document.change(
            lambda issued: _without_unused(issued, node).with_one(_digest(token), invitation)
        )
        return kit

    def uses(self, node: str) -> tuple[tuple[Use, ...], ...]:
        """Of each kit for ``node`` that was used: by whom, in order."""
        issued = self._document.read().invitations.values()
        return tuple(one.uses for one in issued if one.node == node and one.uses)

    def open(self) -> dict[str, datetime]:
        """Who has a kit and did not use it yet, and until when it is valid."""
        issued = self._document.read().invitations.values()
        return {one.node: one.expires for one in issued if not one.uses}

    def redeem(self, request: JoinRequest, address: str) -> Member:
        """Let the owner of the request's keys join, to be approved.

        The same request again is answered in the same way: its answer may have been lost. Raises
        ``PolicyError`` if the kit is unknown, void, expired, for another node, or was used before
        with other keys.
        """
        use = Use(
            at=datetime.now(UTC),
            address=address,
            fingerprint=node_fingerprint(request.signing_key, request.transport_key),
        )
        token = _digest(request.token)
        issued = self._document.change(lambda issued: _after_use(issued, token, request.node, use))
        uses = issued.invitations[token].uses
        is_new = use in uses  # or these keys were shown before
        if uses[0].fingerprint != use.fingerprint:
            if is_new:
                self._note(Event.KIT_REUSED, request.node, use)
            raise PolicyError(
                "this kit was used before, with other keys: if that was not you, it was stolen; "
                "call the operator, who sees both uses and can give out a new kit",
                "kit_reused",
            )
        member = self._admit(request, repeated=not is_new)
        if is_new:
            self._note(Event.JOINED, request.node, use)
        return member

    def _note(self, event: Event, node: str, use: Use) -> None:
        """Write it down, once for each use: whoever asks for ever pushes no older line out."""
        keys = use.fingerprint.replace(" ", "-")
        self._home.journal().write(event, node=node, address=use.address, fingerprint=keys)

    def _kit(self, invitation: Invitation, token: str) -> SignedKit:
        config = self._home.config
        key = self._home.signing_key()
        kit = Kit(
            consortium=config.consortium,
            node=invitation.node,
            host=config.address,
            port=config.port,
            authority=self._home.authority_pem(),
            coordinator_key=key.public,
            curriculum=self._home.curriculum,
            token=token,
            expires=invitation.expires,
            release=__version__,
        )
        return SignedKit.sign(kit, key)

    def _admit(self, request: JoinRequest, repeated: bool) -> Member:
        there = self._directory.get(request.node)
        if repeated:
            if there is None or there.signing_key != request.signing_key:
                raise PolicyError(
                    "the operator has removed who joined with this kit; ask for a new one", "kit"
                )
            return there
        new = Member(
            name=request.node,
            transport_key=request.transport_key,
            signing_key=request.signing_key,
            declared_size=request.declared_size,
            release=request.release,
            standing=Standing.PENDING,
            since=datetime.now(UTC),
            approved=None if there is None else there.approved,
        )
        return self._directory.add(new)


def _after_use(issued: _Issued, token: str, node: str, use: Use) -> _Issued:
    """With the use; raises ``PolicyError`` where there is nothing to be used."""
    invitation = issued.invitations.get(token)
    if invitation is None or invitation.node != node:
        raise PolicyError(
            f"no kit with this token was given out for {node}, or a newer one has replaced it; ask "
            "the operator for a new one",
            "kit",
        )
    if use.at >= invitation.expires and not invitation.uses:
        raise PolicyError("this kit has expired; ask the operator for a new one", "kit")
    return issued.with_one(token, invitation.used(use))


def _without_unused(issued: _Issued, node: str) -> _Issued:
    kept = {token: one for token, one in issued.invitations.items() if one.node != node or one.uses}
    return _Issued(invitations=kept)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
