"""The one way in which anything that was made of learners' records leaves a node."""

from collections.abc import Callable

from cloister_client.ledger import Ledger, Reservation
from cloister_shared.errors import LedgerError
from cloister_shared.privacy.ledger_format import Charge, ModelEvent

Produce = Callable[[Reservation], tuple[bytes, tuple[ModelEvent, ...]]]
"""Reads learners of the reservation's cohorts; the bytes to send, and what was really done."""


def release_once(ledger: Ledger, charge: Charge, produce: Produce) -> bytes:
    """The bytes to send for ``charge``: those of an earlier answer, or what ``produce`` makes now.

    The charge is durable before ``produce`` reads anybody, the bytes are before they are returned.
    Raises what :meth:`Ledger.reserve` raises, and ``LedgerError`` if something else was done than
    was charged: then nothing leaves, and the charge stands.
    """
    reservation = ledger.reserve(charge)
    if reservation.payload is not None:
        return reservation.payload
    ledger.start(reservation)
    payload, events = produce(reservation)
    if events != reservation.charge.events:
        raise LedgerError("something else was done than was charged for")
    ledger.commit(reservation, payload)
    return payload
