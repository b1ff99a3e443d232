"""Ed25519 signatures (RFC 8032): who said something, and that nobody changed it."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PUBLIC_DIGITS, SIGNATURE_DIGITS = 64, 128
"""Hex digits of a public key and of a signature."""


class SigningKey:
    """A private key; ``public``, 64 hex digits, is what others know its holder by."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> "SigningKey":
        """A fresh key, drawn by the operating system."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> "SigningKey":
        """The key whose :meth:`to_bytes` is ``secret``; ``ValueError`` unless it has 32 bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def to_bytes(self) -> bytes:
        """The 32 secret bytes."""
        return self._private.private_bytes_raw()

    def sign(self, content: bytes) -> str:
        """The signature of ``content``, 128 hex digits; always the same."""
        return self._private.sign(content).hex()


def is_signed(content: bytes, signature: str, public: str) -> bool:
    """Whether the holder of ``public`` signed ``content``; no, where anything is malformed.

    Both are spelled in one way only, with small letters: or one document would have two forms.
    """
    if (public + signature) != (public + signature).lower():
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
