"""Several processes change one file, and nothing of either is lost."""

import threading
from pathlib import Path

import pytest

from cloister_server.locked_document import LockedDocument
from cloister_shared.frozen import Frozen


class Numbers(Frozen):
    numbers: tuple[int, ...] = ()

    def with_one(self, number: int) -> "Numbers":
        return Numbers(numbers=(*self.numbers, number))


def _document(folder: Path) -> LockedDocument[Numbers]:
    return LockedDocument(folder / "numbers.json", Numbers())


def test_nothing_is_lost_when_two_write_at_once(tmp_path: Path) -> None:
    def write(first: int) -> None:
        document = _document(tmp_path)
        for number in range(first, first + 30):
            document.change(lambda numbers, one=number: numbers.with_one(one))

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 30)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert sorted(_document(tmp_path).read().numbers) == list(range(60))


def test_a_change_by_another_is_seen_at_once(tmp_path: Path) -> None:
    reader, writer = _document(tmp_path), _document(tmp_path)
    for number in range(5):
        writer.change(lambda numbers, one=number: numbers.with_one(one))
        assert reader.read().numbers == tuple(range(number + 1))


def test_what_changes_nothing_or_fails_writes_nothing(tmp_path: Path) -> None:
    def fail(numbers: Numbers) -> Numbers:
        raise RuntimeError

    document = _document(tmp_path)
    document.change(lambda numbers: numbers)
    with pytest.raises(RuntimeError):
        document.change(fail)
    assert not (tmp_path / "numbers.json").exists()
    document.change(lambda numbers: numbers.with_one(1))
    assert (tmp_path / "numbers.json").stat().st_mode & 0o777 == 0o600
