"""Members of a consortium for tests: keys made on the spot."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister_server.directory import Member
from cloister_shared.kit import Standing
from cloister_shared.signing import SigningKey


def transport_key() -> str:
    """The public half of a fresh P-384 key, as PEM."""
    return public_pem(ec.generate_private_key(ec.SECP384R1()))


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The public half of a key."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def member(name: str, standing: Standing = Standing.PENDING) -> Member:
    """A node that has just joined."""
    return Member(
        name=name,
        transport_key=transport_key(),
        signing_key=SigningKey.generate().public,
        declared_size=100,
        release="0.1.0",
        standing=standing,
        since=datetime.now(UTC),
    )
