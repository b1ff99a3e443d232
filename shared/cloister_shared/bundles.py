"""The Flower App Bundle: settings and no code, the same bytes wherever it is built.

A node opens no bundle. It compares the SHA-256 with those of the releases that it knows: its own
and the one before, so that nodes are upgraded first and the coordinator after them.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping

from cloister_shared.errors import PolicyError

ACCEPTED = {"0.1.0": "7cde3fb57c17edb6983caa34a7fd49ca5e03b2f2c322f8169537354e941281df"}
"""SHA-256 of the bundle by release: this one's and, once there is one, that of the one before."""
MAX_BYTES = 64 * 1024
"""A bundle holds one file of settings; more is refused before it is hashed."""

RUN_KEY = "cloister-run"
"""The one setting of a run: which of the coordinator's runs it is."""

_RUN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_SETTINGS, _MANIFEST = "pyproject.toml", ".info/CONTENT"
_DATE = (1980, 1, 1, 0, 0, 0)


def build(settings: bytes) -> bytes:
    """The bundle whose one file, ``pyproject.toml``, is ``settings``.

    Stored, not deflated: what a compressor makes depends on its release.
    """
    digest, bits = hashlib.sha256(settings).hexdigest(), 8 * len(settings)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (
            (_SETTINGS, settings),
            (_MANIFEST, f"{_SETTINGS},{digest},{bits}".encode()),
        ):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 0
            archive.writestr(entry, content)
    return buffer.getvalue()


def check_bundle(content: bytes, claimed: str, accepted: Mapping[str, str] = ACCEPTED) -> str:
    """The release whose bundle ``content`` is; nothing of it is parsed.

    Raises ``PolicyError`` if that is none of ``accepted``, or not what its sender ``claimed``.
    """
    found = hashlib.sha256(content).hexdigest() if len(content) <= MAX_BYTES else "too long"
    for release, digest in accepted.items():
        if found == digest == claimed:
            return release
    raise PolicyError(
        f"the coordinator's bundle ({found[:16]}, {len(content)} bytes) is not that of release "
        f"{' or '.join(accepted)}: upgrade this node before the coordinator, or ask the operator "
        "what was started",
        "bundle",
    )


def check_settings(settings: Mapping[str, object]) -> str:
    """The run's name out of what was set at its start; ``PolicyError`` if anything else was set.

    The bundle's digest does not cover these.
    """
    run = settings.get(RUN_KEY)
    if settings.keys() != {RUN_KEY} or not isinstance(run, str) or not _RUN.fullmatch(run):
        raise PolicyError(
            f"a run is started with its name as {RUN_KEY} and nothing else, found the settings "
            f"{sorted(settings)}",
            "settings",
        )
    return run
