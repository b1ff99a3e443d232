"""What the round loop needs of whatever carries bytes to nodes and back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cloister_shared.messages import Question


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from one node: bytes, or the error that the transport reports."""

    sender: int
    body: bytes | None
    error: str = ""


class Exchange(Protocol):
    """How the round loop reaches nodes.

    ``receipts`` go to every node beside its request. Replies come one by one, in any order, as they
    arrive: whoever takes them need not hold more than one.
    """

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        """Ids of the nodes that are there, at least ``count``; ``RunError`` after the deadline."""

    def ask(
        self,
        question: Question,
        bodies: Mapping[int, bytes],
        round_number: int,
        deadline_s: float,
        receipts: bytes = b"",
    ) -> Iterable[Reply]:
        """Send each node its request; the replies that come within the deadline."""
