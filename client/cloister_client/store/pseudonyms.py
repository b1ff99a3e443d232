"""Learners under pseudonyms: keyed hashes (HMAC-SHA256, RFC 2104) of what the LMS calls them.

Each use has a label of its own, so that no hash of one use can be compared with another's.
"""

import hmac

from cloister_shared.errors import ConfigError
from cloister_shared.privacy.ledger_format import Role

KEY_BYTES = 32


class Pseudonymizer:
    """What one node's two secret keys make of learners' ids.

    ``evaluation_share`` in [0, 1) of all learners get the role ``evaluation``. Keys are 32 bytes;
    another length is a ``ConfigError``.
    """

    def __init__(self, pseudonym_key: bytes, role_key: bytes, evaluation_share: float) -> None:
        for name, key in (("pseudonym", pseudonym_key), ("role", role_key)):
            if len(key) != KEY_BYTES:
                raise ConfigError(f"the {name} key has {len(key)} bytes, expected {KEY_BYTES}")
        self._pseudonym_key = pseudonym_key
        self._role_key = role_key
        self._evaluation_share = evaluation_share

    def pseudonym(self, lms_id: str) -> str:
        """32 hex digits; the same for the same id and key."""
        return _keyed_hash(self._pseudonym_key, "learner", lms_id)[:16].hex()

    def tombstone(self, pseudonym: str) -> str:
        """64 hex digits: what stands for a learner when they are gone."""
        return _keyed_hash(self._pseudonym_key, "tombstone", pseudonym).hex()

    def role(self, pseudonym: str) -> Role:
        """The permanent role: a hash under the role key falls below the evaluation share or not."""
        uniform = int.from_bytes(_keyed_hash(self._role_key, "role", pseudonym)[:8], "big") / 2**64
        return "evaluation" if uniform < self._evaluation_share else "train"

    def fingerprint(self, *fields: str) -> bytes:
        """16 bytes that tell one learner's records apart without naming what is in them."""
        return _keyed_hash(self._pseudonym_key, "record", "\x1f".join(fields))[:16]

    @property
    def check_value(self) -> str:
        """Tells whether two keys are the same without giving either away."""
        parts = [_keyed_hash(key, "check", "") for key in (self._pseudonym_key, self._role_key)]
        return b"".join(part[:8] for part in parts).hex()


def _keyed_hash(key: bytes, label: str, text: str) -> bytes:
    return hmac.digest(key, f"{label}\x00{text}".encode("utf-8", "surrogatepass"), "sha256")
