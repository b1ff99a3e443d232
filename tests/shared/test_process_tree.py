import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister_shared.journal import Event
from cloister_shared.process_tree import ProcessTree, cloister, end_in_words, in_words

READY = """
import os, sys, time
from pathlib import Path
from cloister_shared.journal import Event, Journal
journal = Journal(Path(sys.argv[1]) / "log" / "ready.jsonl")
journal.write(Event.READY, process="ready", pid=os.getpid(), address="http://127.0.0.1:80")
time.sleep(600)
"""
RUN = f"""
import sys
from pathlib import Path
from cloister_shared.process_tree import ProcessTree
from cloister_shared.supervision import Child
folder = Path(sys.argv[1])
ProcessTree(folder / "run", folder / "log").run((
    Child("ready", (sys.executable, "-c", {READY!r}, str(folder))),
    Child("slow", (sys.executable, "-c", "import time; time.sleep(600)")),
    Child("broken", (sys.executable, "-c", "raise SystemExit(7)")),
))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[ProcessTree]:
    """One that is up."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)])
    yield ProcessTree(tmp_path / "run", tmp_path / "log")
    process.terminate()
    process.wait(30)


def test_the_state_of_every_process_is_told(tree: ProcessTree) -> None:
    end = time.monotonic() + 20
    wanted = {"ready": "ready", "slow": "starting", "broken": "ended"}
    while {name: one.state for name, one in tree.processes().items()} != wanted:
        assert time.monotonic() < end, tree.processes()
        time.sleep(0.02)
    found = tree.processes()
    assert found["ready"].address == "http://127.0.0.1:80"
    assert found["broken"].last_end == "ledger broken (exit code 7)"
    words = in_words(found)
    assert "ready since" in words["ready"]
    assert "the last end: ledger broken" in words["broken"]
    assert tree.entries("supervisor", Event.CHILD_ENDED)[0]["process"] == "broken"
    assert tree.stop()
    assert tree.processes() == {}


def test_what_was_never_up_has_no_processes(tmp_path: Path) -> None:
    tree = ProcessTree(tmp_path / "run", tmp_path / "log")
    assert tree.processes() == {}
    assert not tree.stop()
    assert tree.last("fleet", Event.ANSWERED) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "done (exit code 0)"),
        (10, "service failed (exit code 10)"),
        (77, "unknown (exit code 77)"),
        (-9, "killed by SIGKILL"),
    ],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert end_in_words(code) == words


def test_the_command_runs_with_this_python_wherever_scripts_are() -> None:
    found = subprocess.run(cloister("--help"), capture_output=True, check=True)
    assert b"exit codes" in found.stdout.lower()
