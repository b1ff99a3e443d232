"""The consortium's certificate authority, and the coordinator's TLS certificate (X.509, P-256).

Nodes trust this one authority and no other: they have it from their kit. Certificates are valid
from two days before they are made, for nodes whose clocks are behind.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_EARLIER = timedelta(days=2)
_AUTHORITY_LIFE, _SERVER_LIFE = timedelta(days=3650), timedelta(days=730)
RENEW_BEFORE = timedelta(days=90)
"""How long before its end a server's certificate is made anew."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority: whoever has its key can pretend to be the coordinator."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def from_pem(cls, key: bytes, certificate: bytes) -> "Authority":
        """The authority in two PEM files; ``ValueError`` if they are none."""
        private = load_pem_private_key(key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not on an elliptic curve")
        return cls(private, x509.load_pem_x509_certificate(certificate))

    def to_pem(self) -> tuple[bytes, bytes]:
        """Key and certificate."""
        return _key_pem(self.key), self.certificate.public_bytes(Encoding.PEM)


def make_authority(consortium: str) -> Authority:
    """A fresh authority that may sign servers' certificates and nothing below them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{consortium} authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    return Authority(key, builder.sign(key, SHA256()))


def issue(authority: Authority, names: Iterable[str]) -> tuple[bytes, bytes]:
    """A fresh server key and its certificate for ``names`` and addresses, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([_general_name(one) for one in names])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = (
        _builder(_name("coordinator"), authority.certificate.subject, key, _SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(alternatives, critical=False)
        .add_extension(server, critical=False)
        .add_extension(identifier, critical=False)
    )
    certificate = builder.sign(authority.key, SHA256())
    return _key_pem(key), certificate.public_bytes(Encoding.PEM)


def serves(certificate: bytes, names: Iterable[str], now: datetime | None = None) -> bool:
    """Whether the certificate (PEM) is for exactly ``names``, and not about to end."""
    parsed = x509.load_pem_x509_certificate(certificate)
    found = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = x509.SubjectAlternativeName([_general_name(one) for one in names])
    return (
        found == wanted and (now or datetime.now(UTC)) < parsed.not_valid_after_utc - RENEW_BEFORE
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
