"""The headers by which nodes prove who they are; ``KEY`` is that of oak, ``STRANGER`` nobody's."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister_server.guard import PUBLIC_KEY, SIGNATURE, TIMESTAMP

KEY, STRANGER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


NAMES = {pem(KEY): "oak"}


def signed(
    key: ec.EllipticCurvePrivateKey = KEY, age_s: float = 0.0, length: int = 4
) -> dict[bytes, bytes]:
    """What a node sends along, signed ``age_s`` seconds ago."""
    timestamp = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat().encode()
    return {
        PUBLIC_KEY: b64encode(pem(key)),
        SIGNATURE: b64encode(key.sign(timestamp, ec.ECDSA(SHA256()))),
        TIMESTAMP: timestamp,
        b"content-length": str(length).encode(),
    }
