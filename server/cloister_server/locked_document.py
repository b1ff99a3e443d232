"""A JSON document in a file that several processes read and change."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from cloister_shared.durable import SECRET, write_durably
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen

Document = TypeVar("Document", bound=Frozen)
_Stamp = tuple[int, int, int]


class LockedDocument(Generic[Document]):
    """The document in ``path``, ``empty`` as long as there is no file.

    A reader sees what was written last by whichever process, at the cost of one ``stat``.
    """

    def __init__(self, path: Path, empty: Document) -> None:
        self._path = path
        self._empty = empty
        self._seen: tuple[_Stamp | None, Document] = (None, empty)

    def read(self) -> Document:
        """What the file says now; ``ConfigError`` if it cannot be read."""
        stamp = _stamp(self._path)
        if stamp is None:
            return self._empty
        seen, document = self._seen
        if stamp != seen:
            document = self._load()
            self._seen = (stamp, document)
        return document

    def change(self, change: Callable[[Document], Document]) -> Document:
        """Replace the document by ``change`` of it, durably; one process at a time."""
        with self._alone():
            before = self.read()
            changed = change(before)
            if changed is not before:
                write_durably(self._path, changed.model_dump_json(indent=1).encode(), SECRET)
        return changed

    def _load(self) -> Document:
        try:
            return type(self._empty).model_validate_json(self._path.read_bytes())
        except (ValidationError, OSError) as error:
            raise ConfigError(
                f"{self._path} cannot be read; restore it from a backup, it is never made anew"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self._path.with_name(f".{self._path.name}.lock")
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _stamp(path: Path) -> _Stamp | None:
    """What differs once the file was replaced; ``None`` without a file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
