import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister_shared.errors import ServiceError
from cloister_shared.journal import read
from cloister_shared.supervision import (
    LONGEST_WAIT_S,
    STATUS,
    Status,
    is_up,
    stop,
    wait_after,
)

SUPERVISE = """
import sys
from pathlib import Path
from cloister_shared.journal import Journal
from cloister_shared.supervision import Child, Supervisor
folder = Path(sys.argv[1])
children = tuple(
    Child(f"child{i}", (sys.executable, "-c", code), nice=i)
    for i, code in enumerate(sys.argv[2:])
)
Supervisor(folder, children, Journal(folder / "journal.jsonl"), folder / "output.log").run()
"""
SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(600)"
Supervise = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts a supervisor of children that run given code."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*codes: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SUPERVISE, str(tmp_path), *codes]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield begin
    for process in started:
        process.terminate()
        process.wait(30)


def awaited(get: Callable[[], object], what: str = "it") -> None:
    end = time.monotonic() + 20
    while not get():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.02)


def up(folder: Path) -> Status:
    """All children run."""
    awaited(lambda: (status := is_up(folder)) and all(child.pid for child in status.children))
    status = is_up(folder)
    assert status is not None
    return status


def pids(status: Status) -> list[int]:
    return [child.pid for child in status.children if child.pid]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_down_ends_all_processes_of_the_tree(supervise: Supervise, tmp_path: Path) -> None:
    process = supervise(SLEEP, SLEEP)
    running = pids(up(tmp_path))
    assert all(map(is_alive, running))
    assert stop(tmp_path)
    assert process.wait(5) == 0
    assert not any(map(is_alive, running))
    assert is_up(tmp_path) is None
    assert not stop(tmp_path)


def test_a_child_that_is_killed_is_started_again(supervise: Supervise, tmp_path: Path) -> None:
    supervise(SLEEP, SLEEP)
    first, other = pids(up(tmp_path))
    os.kill(first, signal.SIGKILL)
    awaited(lambda: (now := is_up(tmp_path)) and now.children[0].pid not in (first, None))
    status = up(tmp_path)
    assert status.children[0].restarts == 1
    assert status.children[0].exit_code == -signal.SIGKILL
    assert status.children[1].pid == other
    ended = [entry for entry in read(tmp_path / "journal.jsonl", 9) if "exit_code" in entry]
    assert [(entry["process"], entry["restart_in_s"]) for entry in ended] == [("child0", 1.0)]


def test_one_that_goes_on_ending_is_started_ever_later() -> None:
    waits = [wait_after(failures) for failures in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert wait_after(10_000) == LONGEST_WAIT_S
    assert wait_after(0) == 1


def test_the_children_of_a_supervisor_that_is_killed_end(
    supervise: Supervise, tmp_path: Path
) -> None:
    process = supervise(SLEEP)
    running = pids(up(tmp_path))
    process.kill()
    awaited(lambda: not any(map(is_alive, running)), "the end of the children")
    assert is_up(tmp_path) is None


def test_after_a_kill_the_next_supervisor_starts(supervise: Supervise, tmp_path: Path) -> None:
    process = supervise(SLEEP)
    up(tmp_path)
    process.kill()
    process.wait()
    again = supervise(SLEEP)
    awaited(lambda: (now := is_up(tmp_path)) and now.pid == again.pid)


def test_a_status_that_a_killed_supervisor_left_is_gone_before_anything_is_started(
    supervise: Supervise, tmp_path: Path
) -> None:
    """Its process number may be anybody's after a reboot: ``stop`` must not end that one."""
    (tmp_path / STATUS).write_text("left over")
    look = f"""
import pathlib, time
folder = pathlib.Path({str(tmp_path)!r})
status = folder / {STATUS!r}
(folder / "part").write_text(status.read_text() if status.exists() else "gone")
(folder / "part").rename(folder / "seen")
time.sleep(600)
"""
    supervise(look)
    awaited((tmp_path / "seen").exists, "what the child saw")
    assert (tmp_path / "seen").read_text() != "left over"


def test_a_second_supervisor_in_a_folder_is_refused(supervise: Supervise, tmp_path: Path) -> None:
    first = supervise(SLEEP)
    up(tmp_path)
    code = (
        "import sys\nfrom cloister_shared.errors import ServiceError\n"
        f"try:\n    exec({SUPERVISE!r})\nexcept ServiceError as error:\n    sys.exit(str(error))"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True
    )
    assert b"is up already; take it down first" in second.stderr
    assert first.poll() is None


def test_looking_never_disturbs_a_start(supervise: Supervise, tmp_path: Path) -> None:
    (tmp_path / "up.lock").touch()
    (tmp_path / "status.json").touch()
    process = supervise(SLEEP)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            is_up(tmp_path)
        except ServiceError:  # of the empty status.json, until the supervisor has written its own
            continue
    assert process.poll() is None


def test_a_child_that_does_not_listen_is_killed(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import cloister_shared.supervision as s; s.GRACE_S = 0.3\n{SUPERVISE}"
    monkeypatch.setattr(sys.modules[__name__], "SUPERVISE", code)
    supervise(DEAF)
    (pid,) = pids(up(tmp_path))
    assert stop(tmp_path)
    assert not is_alive(pid)


def test_training_yields_to_serving(supervise: Supervise, tmp_path: Path) -> None:
    supervise(SLEEP, SLEEP)
    first, second = pids(up(tmp_path))
    difference = os.getpriority(os.PRIO_PROCESS, second) - os.getpriority(os.PRIO_PROCESS, first)
    assert difference == 1


def test_a_child_cannot_hold_the_lock(supervise: Supervise, tmp_path: Path) -> None:
    supervise(SLEEP)
    (pid,) = pids(up(tmp_path))
    links = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [link for link in links if "up.lock" in link]
