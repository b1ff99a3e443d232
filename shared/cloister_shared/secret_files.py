"""Files that hold keys: their owner alone may read them, at all times."""

import os
from pathlib import Path

from cloister_shared.errors import ConfigError
from cloister_shared.signing import SigningKey


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; ``FileExistsError`` if there is one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_secret(path: Path) -> bytes:
    """What is in the file; ``ConfigError`` if it is missing, or open to other users."""
    try:
        others = path.stat().st_mode & 0o077
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}; restore the keys that belong to this folder"
        ) from error
    if others:
        raise ConfigError(f"{path} is open to other users of this machine: chmod 600 {path}")
    return content


def read_signing_key(path: Path) -> SigningKey:
    """The key in the file; ``ConfigError`` if it cannot be read, or is none."""
    try:
        return SigningKey.from_bytes(read_secret(path))
    except ValueError as error:
        raise ConfigError(
            f"{path} is not a key of 32 bytes; restore the keys that belong to this folder"
        ) from error
