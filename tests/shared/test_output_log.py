"""What processes print cannot fill a disk, and nobody who prints is held up by that."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from tests.waiting import until

from cloister_shared import output_log
from cloister_shared.output_log import keep_short
from cloister_shared.process_tree import ProcessTree

MOST = 10_000
CHATTER = (
    "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(1e-4)"
)
TREE = f"""
import sys
from pathlib import Path
from cloister_shared import output_log
from cloister_shared.process_tree import ProcessTree
from cloister_shared.supervision import Child
output_log.MAX_BYTES = {MOST}
folder = Path(sys.argv[1])
ProcessTree(folder / "run", folder / "log").run((
    Child("chatter", (sys.executable, "-c", {CHATTER!r})),
))
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(output_log, "MAX_BYTES", MOST)
    return tmp_path / "output.log"


@pytest.fixture
def printer(path: Path) -> Iterator[BinaryIO]:
    """Somebody who prints into the file all the time."""
    with path.open("ab", buffering=0) as file:
        yield file


def test_a_short_file_is_left_alone(path: Path, printer: BinaryIO) -> None:
    printer.write(b"ready\n")
    keep_short(path)
    assert path.read_bytes() == b"ready\n"
    assert not path.with_name("output.log.1").exists()


def test_a_long_one_is_emptied_where_it_lies_and_its_end_is_kept(
    path: Path, printer: BinaryIO
) -> None:
    for number in range(3000):
        printer.write(b"%05d\n" % number)
    keep_short(path)
    printer.write(b"on it goes\n")
    assert path.read_bytes() == b"on it goes\n"
    kept = path.with_name("output.log.1").read_bytes()
    assert len(kept) == MOST
    assert kept.endswith(b"02998\n02999\n")


def test_where_nothing_can_be_kept_the_file_is_emptied_all_the_same(
    path: Path, printer: BinaryIO, caplog: pytest.LogCaptureFixture
) -> None:
    path.with_name("output.log.1").mkdir()
    printer.write(bytes(MOST))
    keep_short(path)
    assert path.read_bytes() == b""
    assert "could not be kept" in caplog.text


def test_without_a_file_there_is_nothing_to_do(path: Path) -> None:
    keep_short(path)
    assert not path.exists()


def test_a_process_that_prints_for_ever_fills_no_disk_and_is_not_held_up(tmp_path: Path) -> None:
    output = tmp_path / "log" / "output.log"
    output.parent.mkdir()
    with output.open("ab") as file:
        supervisor = subprocess.Popen([sys.executable, "-c", TREE, str(tmp_path)], stdout=file)
    try:
        until(output.with_name("output.log.1").exists, "the first file is full")
        first = _newest(output)
        until(lambda: _newest(output) > first + 20 * MOST // 6, "it prints on", 60.0)
        assert sum(one.stat().st_size for one in output.parent.glob("output*")) < 20 * MOST
        (child,) = ProcessTree(tmp_path / "run", tmp_path / "log").processes().values()
        assert child.restarts == 0
    finally:
        supervisor.terminate()
        supervisor.wait(30)


def _newest(output: Path) -> int:
    """The number that was printed last."""
    said = [*output.read_bytes().split(b"\n")[:-1]]
    return int(said[-1]) if said else 0
