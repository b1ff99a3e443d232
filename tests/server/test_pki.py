"""The authority and its certificates hold in a real TLS handshake, and for nobody else."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from cloister_server.pki import Authority, issue, make_authority, serves

NAMES = ("coordinator.example.org", "10.0.0.7")


def _shake_hands(authority: Authority, trusted: Authority, name: str, folder: Path) -> None:
    """A handshake in memory with a server of ``authority``; raises what the client says."""
    key, certificate = issue(authority, NAMES)
    (folder / "key").write_bytes(key)
    (folder / "certificate").write_bytes(certificate)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "certificate", folder / "key")
    client_side = ssl.create_default_context(cadata=trusted.to_pem()[1].decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for one in (client, server, client, server):
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("name", NAMES)
def test_a_node_accepts_the_coordinator_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    authority = make_authority("north")
    _shake_hands(authority, authority, name, tmp_path)


def test_a_node_refuses_another_authority_and_another_name(tmp_path: Path) -> None:
    authority = make_authority("north")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local"):
        _shake_hands(make_authority("north"), authority, NAMES[0], tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _shake_hands(authority, authority, "elsewhere.example.org", tmp_path)


def test_certificates_hold_for_a_node_whose_clock_is_a_day_behind() -> None:
    authority = make_authority("north")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    server = load_pem_x509_certificate(issue(authority, NAMES)[1])
    for one in (authority.certificate, server):
        assert one.not_valid_before_utc < yesterday


def test_a_certificate_is_made_anew_before_it_ends() -> None:
    _, certificate = issue(make_authority("north"), NAMES)
    assert serves(certificate, NAMES)
    assert not serves(certificate, NAMES[:1])
    assert not serves(certificate, NAMES, datetime.now(UTC) + timedelta(days=650))


def test_an_authority_is_read_as_it_was_written() -> None:
    authority = make_authority("north")
    assert Authority.from_pem(*authority.to_pem()).certificate == authority.certificate
