"""``cloister node restore``: a home out of a backup. What it has spent since then is unknown.

So its ledger says first of all that everything is spent. If the coordinator has seen no entry that
the backup does not have, its next receipt lifts that; otherwise it stays.
"""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from cloister_client.custody.manifest import MANIFEST, Manifest
from cloister_client.home import KEYS, LEDGER, SIGNING_KEY, NodeHome, built_beside
from cloister_client.ledger import SqliteLedger
from cloister_client.ledger.place import forget_place, require_place
from cloister_shared.errors import DataError, LedgerError
from cloister_shared.secret_files import read_signing_key

_CHUNK = 1 << 20
_LONGEST_MANIFEST = 1 << 20
"""Bytes."""


def restore(file: Path, folder: Path) -> Manifest:
    """Make a home in the new or empty ``folder`` of a backup, all of which is checked before.

    Raises ``DataError`` if ``file`` is no backup, or damaged; ``LedgerError`` if what it holds does
    not belong together; ``ConfigError`` if the folder holds anything.
    """
    with _opened(file) as tar:
        manifest = _checked(tar)
        with built_beside(folder) as unfinished:
            _unpack(tar, manifest, unfinished)
            _mark_restored(unfinished, manifest)
    require_place(folder / LEDGER)
    return manifest


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{file} cannot be read as a node's backup: {error}") from error


def _checked(tar: tarfile.TarFile) -> Manifest:
    """The manifest, if it is signed, and the parts that it names are there as they were."""
    members = tar.getmembers()
    names = [member.name for member in members]
    if names[:1] != [MANIFEST] or not all(member.isreg() for member in members):
        raise DataError("this is not a node's backup: it does not begin with a manifest")
    manifest = _read_manifest(_content(tar, members[0]).read(_LONGEST_MANIFEST))
    if not (manifest.is_authentic and manifest.holds_a_node):
        raise DataError("the backup's manifest was altered: its signature does not fit")
    if sorted(names) != sorted([MANIFEST, *manifest.files]):
        raise DataError("the backup holds other files than its manifest says")
    for member in members[1:]:
        _copy(_content(tar, member), None, member.name, manifest)
    return manifest


def _read_manifest(text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise DataError("the backup's manifest cannot be read by this version") from error


def _unpack(tar: tarfile.TarFile, manifest: Manifest, target: Path) -> None:
    """Each part to its place; names are the manifest's, which are those of a home."""
    (target / KEYS).mkdir(mode=0o700)
    for name in manifest.files:
        handle = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            _copy(_content(tar, tar.getmember(name)), file, name, manifest)
            file.flush()
            os.fsync(file.fileno())


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise DataError(f"the backup's {member.name} is not a file")
    return content


def _copy(source: IO[bytes], target: IO[bytes] | None, name: str, manifest: Manifest) -> None:
    """All bytes of a part, into nothing if it is only to be checked against its SHA-256."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    if digest.hexdigest() != manifest.files.get(name):
        raise DataError(f"the backup is damaged: {name} is not what was backed up")


def _mark_restored(home: Path, manifest: Manifest) -> None:
    """Let the ledger say that all is spent, before the home can be found by anybody."""
    key = read_signing_key(home / KEYS / SIGNING_KEY)
    ledger = SqliteLedger.open(home / LEDGER, key)
    try:
        if (key.public, ledger.head()) != (manifest.key, manifest.head):
            raise LedgerError("the backup's ledger or key is not the one that its manifest names")
        ledger.mark_restored()
    finally:
        ledger.close()
    forget_place(home / LEDGER)
    opened = NodeHome.open(home)
    if opened.config.store_url is None:
        opened.store().close()
