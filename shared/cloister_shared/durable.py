"""Files that are replaced whole: whoever reads one finds the old content or the new, never half."""

import os
from collections.abc import Callable
from pathlib import Path

OPEN, SECRET = 0o666, 0o600
"""Modes of a new file: as the process's umask says, or for its owner alone."""


def write_durably(path: Path, content: bytes, mode: int = OPEN) -> None:
    """Replace ``path`` by ``content``, flushed to disk before the name changes."""
    _replace(path, content, mode, before_replacing=os.fsync)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, content: bytes, mode: int = OPEN) -> None:
    """Replace ``path`` by ``content``; after a failure of the machine the old one may be back."""
    _replace(path, content, mode, before_replacing=lambda _: None)


def _replace(
    path: Path, content: bytes, mode: int, before_replacing: Callable[[int], None]
) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        before_replacing(file.fileno())
    partial.replace(path)
