"""Whether a request comes from the coordinator, to this node, now: what lies beside it says so.

These terms and the coordinator's signature of them are no part of the request: nothing of a request
is parsed before they are found to be good. They hold a digest of all its bytes, so nobody on the
way can change plan, round or weights, hand it to another node, or keep it for another day. Asked
again, a request is the same bytes; only its terms may be new.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationError

from cloister_shared.canonical import canonical_json
from cloister_shared.errors import PolicyError
from cloister_shared.frozen import Frozen
from cloister_shared.signing import SigningKey, is_signed

LATEST = 2**53
"""No time is later, in seconds since 1970: that far, all floats hold whole seconds exactly."""


class Terms(Frozen):
    """What the coordinator signs of a request.

    ``sha256`` is of its body, ``nodes`` are the names of all that are asked it, ``until`` is the
    last second at which it may be taken up, by the coordinator's clock, since 1970 (UTC).
    """

    type: Literal["request"] = "request"
    sha256: str
    nodes: tuple[str, ...]
    until: int = Field(ge=0, le=LATEST)


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """Terms as they travel: canonical JSON, and the signature of these bytes in 128 hex digits."""

    document: bytes = b""
    signature: bytes = b""


def sign_request(body: bytes, nodes: Collection[str], until: int, key: SigningKey) -> SignedTerms:
    """What goes beside a request to each of ``nodes``, however many there are: one signature."""
    digest = hashlib.sha256(body).hexdigest()
    terms = Terms(sha256=digest, nodes=tuple(sorted(nodes)), until=until)
    document = canonical_json(terms.model_dump(mode="json"))
    return SignedTerms(document, key.sign(document).encode())


def check_request(body: bytes, signed: SignedTerms, coordinator: str, node: str, now: float) -> int:
    """Until when the request may be taken up: a time like ``now``, the coordinator's.

    Raises ``PolicyError`` unless the holder of the public key ``coordinator`` signed ``body``, as a
    request (``signature``) to ``node`` (``recipient``) whose time is not over (``expired``).
    """
    terms = _authentic(body, signed, coordinator)
    if node not in terms.nodes:
        raise PolicyError(
            "the request was made for other nodes: somebody handed it on to this one", "recipient"
        )
    if now > terms.until:
        raise PolicyError(
            f"the request's time ended {now - terms.until:.0f} s ago: somebody kept it, or it was "
            "under way for too long",
            "expired",
        )
    return terms.until


def _authentic(body: bytes, signed: SignedTerms, coordinator: str) -> Terms:
    """The terms, if the coordinator signed them and they are of this body."""
    signature = signed.signature.decode("ascii", "replace")
    if is_signed(signed.document, signature, coordinator):
        try:
            terms = Terms.model_validate_json(signed.document)
        except ValidationError:  # the coordinator's word, but about something else
            terms = None
        if terms is not None and terms.sha256 == hashlib.sha256(body).hexdigest():
            return terms
    raise PolicyError(
        "the request is not signed with the key of this node's coordinator: it was altered on "
        "the way, or somebody else asks",
        "signature",
    )
