"""Kits and requests: nothing of them can be changed by who does not have the key."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import ConfigError, MessageError, PolicyError
from cloister_shared.kit import JoinRequest, Kit, SignedKit, SignedRequest, StandingRequest
from cloister_shared.signing import SigningKey

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = SigningKey.from_bytes(bytes(range(32)))


def _authority() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 1, NOW, NOW + timedelta(days=1)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


SIGNED = SignedKit.sign(
    Kit(
        consortium="north",
        node="oak",
        host="10.0.0.7",
        port=8443,
        authority=_authority(),
        coordinator_key=KEY.public,
        curriculum=Curriculum(
            name="c", skills=(Skill(id="a"),), items=(Item(id="i", skills=("a",)),)
        ),
        token="t" * 43,
        expires=NOW,
        release="0.1.0",
    ),
    KEY,
)
TEXT = SIGNED.model_dump_json()


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


TRANSPORT_KEY = ec.generate_private_key(ec.SECP384R1())
TRANSPORT = _pem(TRANSPORT_KEY)


def test_a_kit_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "oak.kit").write_text(TEXT)
    assert SignedKit.load(tmp_path / "oak.kit") == SIGNED


@given(st.integers(0, len(TEXT) - 1), st.sampled_from('0aZ+/ "{,'))
def test_a_kit_with_one_letter_changed_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, letter: str
) -> None:
    altered = TEXT[:place] + letter + TEXT[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "altered.kit"
    path.write_text(altered)
    try:
        said = SignedKit.load(path)
    except (ConfigError, PolicyError):
        return
    assert said == SIGNED


def test_a_kit_that_another_key_signed_is_refused(tmp_path: Path) -> None:
    forged = SIGNED.model_copy(update={"signature": SigningKey.generate().sign(b"anything")})
    (tmp_path / "oak.kit").write_text(forged.model_dump_json())
    with pytest.raises(PolicyError, match="was altered after the coordinator signed it"):
        SignedKit.load(tmp_path / "oak.kit")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"PK"])
def test_what_is_no_kit_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "oak.kit").write_bytes(content)
    with pytest.raises(ConfigError, match=r"oak\.kit is not a kit .* ask the operator"):
        SignedKit.load(tmp_path / "oak.kit")
    with pytest.raises(ConfigError, match=r"cannot read the kit .*none\.kit"):
        SignedKit.load(tmp_path / "none.kit")


def test_a_kit_is_valid_up_to_its_end() -> None:
    SIGNED.require_in_time(NOW - timedelta(seconds=1))
    with pytest.raises(PolicyError, match="this kit expired on 2026-03-01 00:00 UTC"):
        SIGNED.require_in_time(NOW)


def test_another_authority_or_key_has_another_fingerprint() -> None:
    others = [{"authority": _authority()}, {"coordinator_key": SigningKey.generate().public}]
    kits = [SIGNED.kit, *(SIGNED.kit.model_copy(update=one) for one in others)]
    assert len({kit.fingerprint for kit in kits}) == 3
    assert len(SIGNED.kit.fingerprint.split()) == 8


@pytest.mark.parametrize(
    "key",
    [
        _pem(ec.generate_private_key(ec.SECP256R1())),
        _pem(ed25519.Ed25519PrivateKey.generate()),
        TRANSPORT + "\n",
        TRANSPORT.replace("\n", "\r\n"),
        "",
    ],
)
def test_a_transport_key_has_one_curve_and_one_spelling(key: str) -> None:
    with pytest.raises(ValidationError):
        _request(key)


def test_a_request_counts_only_with_the_signatures_of_its_keys() -> None:
    other, other_transport = SigningKey.generate(), ec.generate_private_key(ec.SECP384R1())
    question = StandingRequest(node="oak", signing_key=KEY.public)
    join = _request(TRANSPORT)
    good = SignedRequest.standing(question, KEY), SignedRequest.join(join, KEY, TRANSPORT_KEY)
    for signed, request in zip(good, (question, join), strict=True):
        body = signed.model_dump_json().encode()
        assert SignedRequest.parse(body) == request
        document = json.loads(body)
        document["request"]["node"] = "elm"
        _is_refused(document)
    for forged in (
        SignedRequest.standing(question, other),
        SignedRequest.join(join, other, TRANSPORT_KEY),
        SignedRequest.join(join, KEY, other_transport),
    ):
        _is_refused(forged.model_dump(mode="json"))


@pytest.mark.parametrize("signature", [None, "00", "30" * 104, "3000"])
def test_who_joins_shows_that_the_transport_key_is_theirs(signature: str | None) -> None:
    document = SignedRequest.join(_request(TRANSPORT), KEY, TRANSPORT_KEY).model_dump(mode="json")
    _is_refused({**document, "transport_signature": signature})


def _is_refused(document: dict[str, object]) -> None:
    with pytest.raises(MessageError, match="not signed with the keys that it names"):
        SignedRequest.parse(json.dumps(document).encode())


@pytest.mark.parametrize("release", ["\x1b[2J", "0.1.0\n", "", "1" * 65])
def test_what_a_node_calls_its_release_cannot_rewrite_the_operators_screen(release: str) -> None:
    with pytest.raises(ValidationError, match="release"):
        _request("key", release)


def _request(transport_key: str, release: str = "0.1.0") -> JoinRequest:
    return JoinRequest(
        node="oak",
        token="t" * 43,
        transport_key=transport_key,
        signing_key=KEY.public,
        declared_size=100,
        release=release,
    )
