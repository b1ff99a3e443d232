"""What learners ask for: into the personal chain first, then into the store.

Where a process ends between the two, opening the store does the rest.
"""

from cloister_client.ledger import PersonalChain, WishKind
from cloister_client.store import Store


def opt_out(chain: PersonalChain, store: Store, lms_id: str) -> bool:
    """Use a learner's records no more but to serve them; whether any are held."""
    return _record(chain, store, lms_id, "OPT_OUT")


def opt_in(chain: PersonalChain, store: Store, lms_id: str) -> bool:
    """Let a learner's records be used (again); whether any are held."""
    return _record(chain, store, lms_id, "OPT_IN")


def erase(chain: PersonalChain, store: Store, lms_id: str) -> bool:
    """Delete all records of a learner and take none again; whether any were held."""
    return _record(chain, store, lms_id, "ERASE")


def readmit(chain: PersonalChain, store: Store, lms_id: str) -> bool:
    """Take a learner's records again after an erasure; whether any are held.

    What was deleted does not come back. They go on in their earlier role and cohort, and what they
    said of consent holds.
    """
    return _record(chain, store, lms_id, "READMIT")


def _record(chain: PersonalChain, store: Store, lms_id: str, kind: WishKind) -> bool:
    place = store.place(lms_id)
    kept = place if kind == "ERASE" else None
    chain.append(kind, store.tombstone(lms_id), *(kept or ()))
    store.follow(chain.wishes())
    return place is not None
