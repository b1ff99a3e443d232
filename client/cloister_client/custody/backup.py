"""``cloister node backup``: a running node's whole home, as it was at one moment, in one file.

SQLite's files are not copied but written anew, so that nothing of deleted rows is in them, and what
still lay in their logs is.
"""

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cloister_client.custody.manifest import MANIFEST, OF_A_MEMBER, REQUIRED, Manifest
from cloister_client.home import LEDGER, STORE, NodeHome
from cloister_client.ledger import SqliteLedger
from cloister_shared.errors import ConfigError

_PATIENCE_S = 30.0
"""How long another process may hold a lock."""


def back_up(home: NodeHome, file: Path) -> Manifest:
    """Write ``file``, whole or not at all, its owner's alone; the node may go on meanwhile.

    Raises ``ConfigError`` if ``file`` exists or cannot be written, ``LedgerError`` if the ledger is
    not in order. A store in another database is left out.
    """
    if file.exists():
        raise ConfigError(f"{file} exists; a backup overwrites nothing, name another file")
    with _built_beside(file) as unfinished:
        parts = unfinished / "parts"
        _copy_parts(home, parts)
        manifest = _manifest(home, parts)
        archive = unfinished / "archive"
        _write_archive(manifest, parts, archive)
        archive.replace(file)
    return manifest


def _copy_parts(home: NodeHome, target: Path) -> None:
    """The store before the ledger: then an erasure in between is done again when it is restored."""
    target.mkdir()
    for name in (*REQUIRED, *OF_A_MEMBER):
        if name != LEDGER and (name in REQUIRED or (home.path / name).exists()):
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copy(home.path / name, target / name)
    if home.config.store_url is None:
        home.store().close()  # it does what a process that died left undone of an erasure
        _write_anew(home.path / STORE, target / STORE)
    _write_anew(home.path / LEDGER, target / LEDGER)


def _write_anew(source: Path, target: Path) -> None:
    """One state of a SQLite file that others may be writing to."""
    try:
        with closing(sqlite3.connect(source, timeout=_PATIENCE_S)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise ConfigError(f"cannot copy {source.name} ({error}); make room, try again") from error


def _manifest(home: NodeHome, parts: Path) -> Manifest:
    """What is in ``parts``, of which the ledger is verified."""
    key = home.signing_key()
    ledger = SqliteLedger.open(parts / LEDGER, key)
    head = ledger.head()
    ledger.close()
    files = {
        str(path.relative_to(parts)): _digest(path)
        for path in sorted(parts.rglob("*"))
        if path.is_file()
    }
    blank = Manifest(node=home.config.name, key=key.public, head=head, files=files)
    return blank.signed(key)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_archive(manifest: Manifest, parts: Path, archive: Path) -> None:
    """A tar file of the manifest and the parts, flushed to disk."""
    handle = os.open(archive, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w+b") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
            text = manifest.model_dump_json(indent=1).encode()
            entry = tarfile.TarInfo(MANIFEST)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
            for name in manifest.files:
                with (parts / name).open("rb") as part:
                    entry = tarfile.TarInfo(name)
                    entry.size = (parts / name).stat().st_size
                    tar.addfile(entry, part)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _built_beside(file: Path) -> Iterator[Path]:
    """A folder beside ``file``, its owner's alone, gone in the end; also a killed process's."""
    unfinished = file.resolve().with_name(f".{file.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        yield unfinished
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
