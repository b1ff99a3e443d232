from collections.abc import Callable
from pathlib import Path
from stat import S_IMODE

import pytest

from cloister_shared.durable import SECRET, write_atomically, write_durably

Writer = Callable[[Path, bytes, int], None]


@pytest.mark.parametrize("write", [write_durably, write_atomically])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "file"
    write(path, b"one", 0o644)
    write(path, b"three", 0o644)
    assert path.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_durably, write_atomically])
def test_a_secret_is_never_readable_by_others_not_even_half_written(
    tmp_path: Path, write: Writer
) -> None:
    path = tmp_path / "key"
    path.with_name("key.partial").write_bytes(b"left over by a crash, readable by all")
    write(path, b"secret", SECRET)
    assert path.read_bytes() == b"secret"
    assert S_IMODE(path.stat().st_mode) == SECRET
