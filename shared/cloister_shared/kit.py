"""Startup kits, and what a node and its coordinator say when it joins.

A kit is one signed file. All that it says hangs on the coordinator's key in it, so that an
administrator has one thing to compare by telephone: the coordinator's fingerprint. It holds no
private key: a node makes its own. What is not public in it is the token, for one use.
"""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate
from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from cloister_shared.canonical import canonical_json
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, MessageError, PolicyError
from cloister_shared.fingerprints import coordinator_fingerprint
from cloister_shared.frozen import Frozen, describe
from cloister_shared.signing import PUBLIC_DIGITS, SIGNATURE_DIGITS, SigningKey, is_signed

JOIN_PATH = "/v1/join"
"""Where a coordinator takes signed requests, on the same port as everything that is for nodes."""
MAX_REQUEST_BYTES = 16 * 1024


def _authority(pem: str) -> str:
    load_pem_x509_certificate(pem.encode())
    return pem


def _on_the_curve(pem: str) -> EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError("is not a key on the curve P-384") from error
    if not (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1)):
        raise ValueError("is not a key on the curve P-384")
    return key


def _transport_key(pem: str) -> str:
    """Requires the one spelling that Flower compares, to the byte."""
    key = _on_the_curve(pem)
    if key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() != pem:
        raise ValueError("is not written as PEM usually is")
    return pem


AuthorityPem = Annotated[str, Field(max_length=8192), AfterValidator(_authority)]
"""A certificate authority's certificate."""
TransportKeyPem = Annotated[str, Field(max_length=1024), AfterValidator(_transport_key)]
"""The public P-384 key that a node's requests to Flower are authenticated with."""
PublicKey = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{PUBLIC_DIGITS}}}$")]
"""A public Ed25519 key."""
Signature = Annotated[str, Field(pattern=rf"^[0-9a-f]{{{SIGNATURE_DIGITS}}}$")]
TransportSignature = Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,128}$")]
"""A signature with a transport key: ECDSA over SHA-384 (FIPS 186-5), DER in hex."""
PublicName = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
"""Name of a consortium or a node."""


class Standing(StrEnum):
    """What a node may do."""

    PENDING = "pending"
    APPROVED = "approved"
    REVOKED = "revoked"


class Kit(Frozen):
    """All that the node called ``node`` needs to find and to know its coordinator.

    ``token`` can be used once, until ``expires``; ``release`` is the coordinator's.
    """

    type: Literal["kit"] = "kit"
    consortium: PublicName
    node: PublicName
    host: str
    port: int = Field(ge=1, le=65535)
    authority: AuthorityPem
    coordinator_key: PublicKey
    curriculum: Curriculum
    token: str = Field(min_length=32, max_length=128)
    expires: AwareDatetime
    release: str

    @property
    def fingerprint(self) -> str:
        """The coordinator's, to be compared by telephone."""
        return coordinator_fingerprint(self.coordinator_key, self.authority)


class SignedKit(Frozen):
    """A kit as it lies in a file."""

    kit: Kit
    signature: Signature

    @classmethod
    def sign(cls, kit: Kit, key: SigningKey) -> "SignedKit":
        """The kit, signed with the coordinator's key."""
        return cls(kit=kit, signature=key.sign(_bytes(kit)))

    @classmethod
    def load(cls, path: Path) -> "SignedKit":
        """The kit in a file: ``ConfigError`` if it is none, ``PolicyError`` if it was altered."""
        try:
            signed = cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read the kit {path}: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigError(
                f"{path} is not a kit ({describe(error)}); ask the operator for a new one"
            ) from error
        if not is_signed(_bytes(signed.kit), signed.signature, signed.kit.coordinator_key):
            raise PolicyError(
                f"{path} was altered after the coordinator signed it; do not use it, and tell the "
                "operator",
                "kit",
            )
        return signed

    def require_in_time(self, now: datetime | None = None) -> None:
        """Raise ``PolicyError`` if the kit has expired."""
        if (now or datetime.now(UTC)) >= self.kit.expires:
            raise PolicyError(
                f"this kit expired on {self.kit.expires:%Y-%m-%d %H:%M} UTC (if that is not past, "
                "this machine's clock is wrong); ask the operator for a new one",
                "kit",
            )


class JoinRequest(Frozen):
    """Node → coordinator: these are my public keys, and this is the token of my kit."""

    type: Literal["join"] = "join"
    node: PublicName
    token: str = Field(max_length=128)
    transport_key: TransportKeyPem
    signing_key: PublicKey
    declared_size: int = Field(ge=1, le=10**9)
    release: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,64}$")


class StandingRequest(Frozen):
    """Node → coordinator: what am I to you?"""

    type: Literal["standing"] = "standing"
    node: PublicName
    signing_key: PublicKey


class SignedRequest(Frozen):
    """A request with the signature of the node's signing key that it names.

    A request to join has one of its transport key beside it: nobody joins with a key that is
    another's. Both are of the whole request, so each key says that it belongs to the other.
    """

    request: Annotated[JoinRequest | StandingRequest, Field(discriminator="type")]
    signature: Signature
    transport_signature: TransportSignature | None = None

    @classmethod
    def join(
        cls, request: JoinRequest, key: SigningKey, transport: EllipticCurvePrivateKey
    ) -> "SignedRequest":
        """The request to join, signed with both of the node's keys."""
        content = _bytes(request)
        proof = transport.sign(content, ECDSA(SHA384())).hex()
        return cls(request=request, signature=key.sign(content), transport_signature=proof)

    @classmethod
    def standing(cls, request: StandingRequest, key: SigningKey) -> "SignedRequest":
        """The question, signed with the node's signing key."""
        return cls(request=request, signature=key.sign(_bytes(request)))

    @classmethod
    def parse(cls, body: bytes) -> JoinRequest | StandingRequest:
        """The request in ``body``; ``MessageError`` if it is none or not signed by its node."""
        try:
            signed = cls.model_validate_json(body)
        except ValidationError as error:
            raise MessageError(f"not a request to join: {describe(error)}") from error
        if not signed._is_of_its_keys():
            raise MessageError(
                "not a request to join: it is not signed with the keys that it names"
            )
        return signed.request

    def _is_of_its_keys(self) -> bool:
        content = _bytes(self.request)
        if not is_signed(content, self.signature, self.request.signing_key):
            return False
        if isinstance(self.request, StandingRequest):
            return self.transport_signature is None
        return self.transport_signature is not None and _is_transport_signed(
            content, self.transport_signature, self.request.transport_key
        )


class JoinAnswer(Frozen):
    """Coordinator → node: what you are to me, and what the consortium works with."""

    node: PublicName
    consortium: PublicName
    standing: Standing
    declared_size: int
    curriculum: str
    release: str


def _is_transport_signed(content: bytes, signature: str, public: str) -> bool:
    try:
        _on_the_curve(public).verify(bytes.fromhex(signature), content, ECDSA(SHA384()))
    except InvalidSignature:
        return False
    return True


def _bytes(document: Frozen) -> bytes:
    return canonical_json(document.model_dump(mode="json"))
