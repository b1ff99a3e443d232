"""Folders that are made whole or not at all, wherever the process ends."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloister_shared.errors import ConfigError


@contextmanager
def built_beside(path: Path, what: str, last: str) -> Iterator[Path]:
    """A new folder, its owner's alone, that takes the place of ``path`` in the end.

    ``what`` is made, such as "a node"; ``last`` is the file in it that makes it one. After an error
    the new folder is deleted, ``path`` is as it was, and what the system said is a ``ConfigError``.
    What a killed process left is replaced.
    """
    place = path.resolve()
    unfinished = place.with_name(f".{place.name}.unfinished")
    try:
        if place.exists() and any(place.iterdir()):
            raise ConfigError(f"{path} is not empty; {what} is made in a folder of its own")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        yield unfinished
        if place.exists():  # it may be a mounted volume, or where the caller stands
            _move_into(place, unfinished, last)
        else:
            unfinished.replace(place)
    except OSError as error:
        raise ConfigError(
            f"cannot make {what} in {path}: {error.strerror}; name a new folder where you may write"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _move_into(place: Path, made: Path, last: str) -> None:
    """Everything in ``made`` into the empty folder ``place``, the file ``last`` after the rest."""
    place.chmod(0o700)
    for part in sorted(made.iterdir(), key=lambda part: part.name == last):
        shutil.move(part, place)
