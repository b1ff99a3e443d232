"""A coordinator's home: made once, whole; refused when a part is missing."""

from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from cloister_server.config import CoordinatorConfig
from cloister_server.home import CoordinatorHome
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import ConfigError

CURRICULUM = Curriculum(name="c", skills=(Skill(id="a"),), items=(Item(id="i0", skills=("a",)),))
CONFIG = CoordinatorConfig(consortium="north", address="127.0.0.1")
SECRETS = ("ca.key", "tls.key", "signing.key", "superexec.secret", "control.secret")


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return CoordinatorHome.create(tmp_path / "coordinator", CONFIG, CURRICULUM)


def test_a_home_opens_as_it_was_made(home: CoordinatorHome) -> None:
    opened = CoordinatorHome.open(home.path)
    assert (opened, opened.fingerprint) == (home, home.fingerprint)


def test_secrets_are_for_their_owner_alone(home: CoordinatorHome) -> None:
    folders = [path.stat().st_mode & 0o777 for path in (home.path, home.keys)]
    files = [(home.keys / name).stat().st_mode & 0o777 for name in SECRETS]
    assert (folders, files) == ([0o700] * 2, [0o600] * len(SECRETS))


def test_nothing_is_overwritten(home: CoordinatorHome) -> None:
    with pytest.raises(ConfigError, match="is not empty; a coordinator is made in a folder of its"):
        CoordinatorHome.create(home.path, CONFIG, CURRICULUM)


@pytest.mark.parametrize(
    "part", ["coordinator.yaml", "curriculum.json", "keys/ca.pem", *(f"keys/{n}" for n in SECRETS)]
)
def test_a_missing_part_is_named(home: CoordinatorHome, part: str) -> None:
    (home.path / part).unlink()
    with pytest.raises(ConfigError, match=part):
        CoordinatorHome.open(home.path)


def test_keys_that_others_can_read_are_refused(home: CoordinatorHome) -> None:
    (home.keys / "ca.key").chmod(0o640)
    with pytest.raises(ConfigError, match=r"ca\.key is open to other users.*chmod 600"):
        CoordinatorHome.open(home.path)


def test_an_authoritys_key_that_was_cut_off_is_named(home: CoordinatorHome) -> None:
    (home.keys / "ca.key").write_bytes(b"-----BEGIN")
    with pytest.raises(ConfigError, match=r"ca\.key is no key; restore"):
        CoordinatorHome.open(home.path)


def test_the_certificate_stays_until_the_addresses_change(home: CoordinatorHome) -> None:
    certificate, key = home.tls_files()
    before = certificate.read_bytes(), key.read_bytes()
    home.tls_files()
    assert (certificate.read_bytes(), key.read_bytes()) == before
    moved = CONFIG.model_copy(update={"other_addresses": ("localhost",)})
    CoordinatorHome(home.path, moved, CURRICULUM).tls_files()
    assert certificate.read_bytes() != before[0]
    assert key.read_bytes() != before[1]
    authority = home.authority().certificate
    load_pem_x509_certificate(certificate.read_bytes()).verify_directly_issued_by(authority)
