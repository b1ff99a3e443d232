"""Fingerprints: what two people read to each other by telephone before they trust a key."""

import hashlib
import hmac

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate

from cloister_shared.errors import PolicyError

GROUPS, GROUP_DIGITS = 8, 4
"""128 bits: nobody finds another pair of keys with the same ones."""


def coordinator_fingerprint(key: str, authority: str) -> str:
    """Of a coordinator's public Ed25519 ``key`` (hex) and its certificate authority (PEM)."""
    return _fingerprint(
        bytes.fromhex(key), load_pem_x509_certificate(authority.encode()).public_bytes(Encoding.DER)
    )


def node_fingerprint(signing_key: str, transport_key: str) -> str:
    """Of a node's public Ed25519 key (hex) and its public P-384 key (PEM)."""
    transport = load_pem_public_key(transport_key.encode())
    return _fingerprint(
        bytes.fromhex(signing_key),
        transport.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def require_fingerprint(given: str, true: str, of: str) -> None:
    """Raise ``PolicyError`` unless ``given`` is ``true``; case, blanks and hyphens do not count."""
    if not hmac.compare_digest(_digits(given), _digits(true)):
        raise PolicyError(
            f"the fingerprint that was given is not that of {of}: nothing was done; ask the other "
            "side again, by telephone, and if it still differs somebody has changed the keys",
            "fingerprint",
        )


def _fingerprint(first: bytes, second: bytes) -> str:
    """SHA-256 of a key of 32 bytes and whatever follows, as groups of hex digits."""
    digits = hashlib.sha256(first + second).hexdigest()
    starts = range(0, GROUPS * GROUP_DIGITS, GROUP_DIGITS)
    return " ".join(digits[start : start + GROUP_DIGITS] for start in starts)


def _digits(fingerprint: str) -> bytes:
    return "".join(one for one in fingerprint.lower() if one not in " -\t").encode()
