"""What processes in the background print: a file that stays short, whatever drives them to print.

Each of them holds the file open and appends to it. None waits for a reader, as it would for one
that died at the other end of a pipe; so the file is emptied where it lies.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 5 * 2**20
"""A file of this size is kept as ``NAME.1``, in place of the one before, and emptied."""
_LOG = logging.getLogger(__name__)


def keep_short(path: Path) -> None:
    """Empty a file that has grown to 5 MiB; its last 5 MiB are in ``NAME.1`` from then on.

    What is printed in that very moment is lost; on a full disk, all that the file said. Raises
    nothing: to print is never worth more than to go on.
    """
    if _size(path) < MAX_BYTES:
        return
    lost = _keep(path)
    with suppress(OSError):  # what cannot be written does not grow either
        os.truncate(path, 0)
    if lost is not None:
        _LOG.warning("%s was emptied and could not be kept: %s", path, lost.strerror)


def _keep(path: Path) -> OSError | None:
    """Copy the end of the file; what was in the way, if it could not be done."""
    try:
        with path.open("rb") as file:
            file.seek(-MAX_BYTES, os.SEEK_END)
            path.with_name(path.name + ".1").write_bytes(file.read(MAX_BYTES))
    except OSError as error:
        return error
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
