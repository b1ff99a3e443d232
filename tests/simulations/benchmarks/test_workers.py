"""A worker gets one JSON job and gives one JSON line; where it fails, the command goes on."""

import ast
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister_simulations.benchmarks import peers
from cloister_simulations.benchmarks.contenders import ContenderError
from cloister_simulations.benchmarks.peers.workload import Job, batches, client_data, make_module
from cloister_simulations.benchmarks.simulation import DKT, JOBS, PEERS
from cloister_simulations.benchmarks.workers import WorkerContender

SCRIPTS = Path(peers.__file__).parent
ECHO = """
import json, sys
job = json.load(sys.stdin)
ends = [1e9 + job["cohort"] * number for number in range(job["rounds"])]
print(json.dumps({"round_ends": ends, "versions": {"echo": job["name"]}}))
"""
NOISY = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from workload import answer_job

def work(job):
    print("a library says hello on stdout")
    return [1.0, 2.0]

answer_job(work, ["torch"])
"""
HANGING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[0] + ".pid", "w").write(str(child.pid))
time.sleep(60)
"""


def worker(directory: Path, text: str, **options: object) -> WorkerContender:
    script = directory / "worker.py"
    script.write_text(text)
    return WorkerContender("a worker", Path(sys.executable), script, frozenset({"dkt"}), **options)  # type: ignore[arg-type]


def job(**changes: object) -> Job:
    return Job(**{**vars(DKT), "cohort": 4, "rounds": 3, **changes})  # type: ignore[arg-type]


def test_a_worker_is_told_the_job_with_its_changes_and_says_when_rounds_ended(
    tmp_path: Path,
) -> None:
    measured = worker(tmp_path, ECHO, changes={"cohort": 2}).run(job())
    assert (measured.cohort, list(measured.seconds)) == (2, [2.0, 2.0])
    assert measured.ms_per_client == 1000.0
    assert measured.start_up == pytest.approx(1e9 - time.monotonic(), abs=60)
    assert measured.versions == {"echo": "dkt"}


def test_what_libraries_print_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    measured = worker(tmp_path, NOISY).run(job(rounds=2))
    assert list(measured.seconds) == [1.0]
    assert measured.versions.keys() == {"torch"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raise SystemExit('no such device')", "its worker ended with 1: no such device"),
        ("print('hello')", "its worker gave no answer"),
        (
            ECHO.replace("range(job", "range(1, job"),
            "3 rounds were asked, at least 2 are needed, 2 ended",
        ),
    ],
)
def test_a_worker_that_fails_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ContenderError, match=sentence):
        worker(tmp_path, text).run(job())


def test_a_job_that_the_peer_does_not_do_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="not run on this job"):
        worker(tmp_path, "raise SystemExit(1)").run(job(name="lr"))


def test_a_worker_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="did not finish in 1 s"):
        worker(tmp_path, HANGING, timeout_s=1.0).run(job())
    child = int((tmp_path / "worker.py.pid").read_text())
    # Killed; nobody need have buried it yet.
    assert _within(5.0, lambda: _is_gone(child))


def _is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _within(seconds: float, check: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_what_runs_in_other_environments_imports_nothing_of_ours(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.startswith("cloister") for name in names)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_a_script_and_pinned_requirements_with_torch_first(peer: object) -> None:
    script = SCRIPTS / f"{peer.script}.py"  # type: ignore[attr-defined]
    lines = script.with_suffix(".txt").read_text().splitlines()
    assert script.exists()
    assert lines[0].startswith("torch~=")
    assert all("==" in line or "~=" in line for line in lines)


@pytest.mark.parametrize("one", JOBS, ids=lambda one: one.name)
def test_a_jobs_data_fits_its_module_and_is_the_same_for_everybody(one: Job) -> None:
    data = client_data(one, 3)
    client_data.cache_clear()
    again = client_data(one, 3)
    assert all((first == second).all() for first, second in zip(data, again, strict=True))
    steps = list(batches(one, data))
    assert len(steps) == {"dkt": 1, "dkt_central_noise": 1, "dkt_5_steps": 5, "lr": 6}[one.name]
    assert make_module(one).loss(*steps[0]).isfinite()  # type: ignore[operator]
