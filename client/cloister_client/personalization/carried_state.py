"""A learner's state, carried from answer to answer in the store instead of replayed.

The bytes kept are a fingerprint of the answers that the state covers, then the state. An older
answer that arrives late, a corrected answer or skill map changes the fingerprint, and the state is
replayed; answers that were only added cost one step each. So whoever wrote the answers, and
wherever a process died, the state returned is that of a replay.
"""

import hashlib

from cloister_client.histories import History
from cloister_client.personalization.learner_store import LearnerStore
from cloister_client.personalization.tracer import Tracer, TracerState

FINGERPRINT_BYTES = 16


def current_state(
    store: LearnerStore, tracer: Tracer, version: str, learner: str, history: History
) -> TracerState:
    """The state after all of ``history``, saved if it has moved on; ``learner`` is a pseudonym."""
    covered, state = _carried(store, tracer, version, learner, history)
    if covered == len(history):
        return state
    state = tracer.replay(history[covered:], state)
    blob = _fingerprint(history) + state.to_bytes()
    store.save_state(learner, version, len(history), blob)
    return state


def _carried(
    store: LearnerStore, tracer: Tracer, version: str, learner: str, history: History
) -> tuple[int, TracerState]:
    """How many of the history's first answers the saved state covers, and that state."""
    saved = store.load_state(learner, version) if len(history) else None
    if saved is not None:
        answers, blob = saved
        if blob[:FINGERPRINT_BYTES] == _fingerprint(history[:answers]):
            return answers, TracerState.from_bytes(blob[FINGERPRINT_BYTES:])
    return 0, tracer.initial()


def _fingerprint(history: History) -> bytes:
    """Digest of the length and of everything that the tracer reads of ``history``."""
    known = history.skills >= 0
    digest = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for part in (known.sum(axis=1), history.skills[known], history.correct):
        digest.update(part.tobytes())
    return digest.digest()
