"""Bundles: the same bytes everywhere, taken only from releases that are known, and never opened."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from cloister_shared import __version__
from cloister_shared.bundles import (
    ACCEPTED,
    MAX_BYTES,
    RUN_KEY,
    build,
    check_bundle,
    check_settings,
)
from cloister_shared.errors import PolicyError

SETTINGS = Path(__file__).parents[2] / "server/cloister_server/bundle/pyproject.toml"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def refusal(content: bytes, claimed: str) -> str:
    with pytest.raises(PolicyError) as caught:
        check_bundle(content, claimed)
    assert caught.value.code == "bundle"
    return str(caught.value)


def test_this_releases_bundle_is_on_the_list_and_at_most_one_before_it() -> None:
    content = build(SETTINGS.read_bytes())
    assert ACCEPTED[__version__] == digest(content)
    assert check_bundle(content, digest(content)) == __version__
    assert len(ACCEPTED) <= 2


def test_a_bundle_holds_one_file_that_is_not_compressed() -> None:
    with zipfile.ZipFile(io.BytesIO(build(b"[project]"))) as archive:
        assert archive.read("pyproject.toml") == b"[project]"
        manifest = f"pyproject.toml,{digest(b'[project]')},72"
        assert archive.read(".info/CONTENT").decode() == manifest
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_bundle_with_one_bit_changed_is_refused_by_its_digest() -> None:
    content = bytearray(build(SETTINGS.read_bytes()))
    content[len(content) // 2] ^= 1
    assert __version__ in refusal(bytes(content), digest(content))


def test_a_bundle_with_code_in_it_is_refused_unopened() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pyproject.toml", SETTINGS.read_bytes())
        archive.writestr("cloister_client/__init__.py", "raise SystemExit")
    refusal(buffer.getvalue(), digest(buffer.getvalue()))
    refusal(b"no archive at all", digest(b"no archive at all"))


def test_a_bundle_that_claims_to_be_a_known_one_is_hashed_all_the_same() -> None:
    refusal(b"something else", ACCEPTED[__version__])
    refusal(build(SETTINGS.read_bytes()), digest(b"something else"))


def test_a_bundle_of_a_gigabyte_is_not_even_hashed() -> None:
    assert "too long" in refusal(bytes(MAX_BYTES + 1), ACCEPTED[__version__])


def test_a_node_of_the_next_release_still_takes_this_ones_bundle() -> None:
    content = build(SETTINGS.read_bytes())
    following = {"0.2.0": digest(b"next"), __version__: digest(content)}
    assert check_bundle(content, digest(content), following) == __version__


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {RUN_KEY: ""},
        {RUN_KEY: 7},
        {RUN_KEY: "autumn", "epsilon": 8.0},
        {RUN_KEY: ".."},
        {RUN_KEY: "../autumn"},
        {RUN_KEY: "/var/lib/autumn.checkpoint"},
        {RUN_KEY: "a" * 65},
        {"run": "autumn"},
    ],
)
def test_a_run_is_started_with_its_name_and_nothing_else(settings: dict[str, object]) -> None:
    with pytest.raises(PolicyError) as caught:
        check_settings(settings)
    assert caught.value.code == "settings"
    assert check_settings({RUN_KEY: "autumn-2.b"}) == "autumn-2.b"
