"""The key that a node's requests to Flower are authenticated with: P-384, its owner's alone."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from cloister_shared.errors import ConfigError
from cloister_shared.secret_files import read_secret


def fresh_key() -> bytes:
    """A new key, as PEM."""
    key = generate_private_key(SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> EllipticCurvePrivateKey:
    """The key in the file; ``ConfigError`` if it cannot be read, or is none."""
    try:
        key = load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no key; restore the keys of this folder") from error
    if not (isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP384R1)):
        raise ConfigError(
            f"{path} is not a key on the curve P-384; restore the keys of this folder"
        )
    return key


def public_pem(key: EllipticCurvePrivateKey) -> str:
    """Its public half, in the spelling that Flower compares."""
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
