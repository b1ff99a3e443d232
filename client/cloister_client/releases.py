"""The one way in which anything that was made of learners' records leaves a node."""

from collections.abc import Callable
from dataclasses import dataclass

from cloister_client.ledger import Ledger
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_format import Charge, ModelEvent, SignedHead


@dataclass(frozen=True, slots=True)
class Granted:
    """What was charged and started: learners of these cohorts may be read.

    The ledger's head, which covers the charge, goes into what is sent.
    """

    cohorts: tuple[str, ...]
    head: SignedHead


Produce = Callable[[Granted], tuple[bytes, tuple[ModelEvent, ...]]]
"""Reads learners of the cohorts that are granted; the bytes to send, and what was really done."""


def release_once(ledger: Ledger, charge: Charge, produce: Produce) -> bytes:
    """The bytes to send for ``charge``: those of an earlier answer, or what ``produce`` makes now.

    The charge is durable before ``produce`` reads anybody, the bytes are before they are returned.
    Raises what :meth:`Ledger.reserve` raises, and ``LedgerError`` if something else was done than
    was charged: then nothing leaves, and the charge stands.
    """
    reservation = ledger.reserve(charge)
    if reservation.payload is not None:
        return reservation.payload
    head = ledger.start(reservation)
    payload, events = produce(Granted(reservation.charge.cohorts, head))
    if events != reservation.charge.events:
        raise LedgerError("something else was done than was charged for")
    ledger.commit(reservation, payload)
    return payload
