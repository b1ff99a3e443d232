"""What goes between a node's link and its loop, without a word of Flower's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloister_shared.errors import ServiceError
from cloister_shared.messages import MESSAGE_TYPES
from cloister_shared.requests import SignedTerms

ACTIONS = {kind: question for question, kind in MESSAGE_TYPES.items()}
"""What a node is asked, by the message types of the transport."""
CRASHED = 8
"""The transport's error code of a node whose trainer died over a request."""


class ShutOutError(ServiceError):
    """The coordinator does not know this node: not yet approved, or revoked."""


class LostError(ServiceError):
    """A message cannot be had any more, or nobody waits for its answer: the loop goes on."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a run was started with: the bundle's bytes, what it is said to be, and settings."""

    content: bytes
    claimed: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Question:
    """A request's parts as they came, none of them looked at."""

    body: bytes
    receipts: bytes = b""
    signed: SignedTerms = field(default_factory=SignedTerms)
