"""Peers that run in processes of their own: one JSON job to stdin, one JSON line from stdout."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloister_shared.frozen import Frozen, describe
from cloister_simulations.benchmarks.contenders import ContenderError, Measurement
from cloister_simulations.benchmarks.environments import make_environment
from cloister_simulations.benchmarks.peers.workload import Job

_SCRIPTS = Path(__file__).parent / "peers"
_TUNED = {
    # One thread a process: two on two cores make products this small several times slower.
    "OMP_NUM_THREADS": "1",
    # As our own process: blocks of any size stay in the heap.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}
_OURS = {"OMP_WAIT_POLICY", *_TUNED}
"""Settings of this process that a peer does not inherit."""
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Answer(Frozen):
    """What a worker prints: when each round ended (``time.monotonic``), and what it ran on."""

    round_ends: tuple[float, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class Peer:
    """A peer as it can be had: its script, which has a requirements file beside it.

    ``changes`` are the fields of a job that differ for it, ``jobs`` the names of those it can do.
    ``tuned`` gives it the threads and the allocator that suit the job best.
    """

    name: str
    script: str
    jobs: frozenset[str]
    changes: Mapping[str, Any] = field(default_factory=dict)
    tuned: bool = True

    def installed(self, cache: Path) -> "WorkerContender":
        """The peer in its environment, which may take minutes to make; or ``ContenderError``."""
        script = _SCRIPTS / f"{self.script}.py"
        python = make_environment(script.with_suffix(".txt"), cache)
        return WorkerContender(self.name, python, script, self.jobs, self.changes, tuned=self.tuned)


@dataclass(frozen=True)
class WorkerContender:
    """A contender whose ``script`` a ``python`` of its own runs, once a job."""

    name: str
    python: Path
    script: Path
    jobs: frozenset[str]
    changes: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 900.0
    tuned: bool = True

    def run(self, job: Job) -> Measurement:
        """Start the script, give it the job and read when its rounds ended."""
        if job.name not in self.jobs:
            raise ContenderError("it is not run on this job")
        changed = replace(job, **self.changes)
        began = time.monotonic()
        answer = self._answer(json.dumps(asdict(changed)))
        return Measurement.of(changed, began, answer.round_ends, answer.versions)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        return {**inherited, **_QUIET, **(_TUNED if self.tuned else {})}

    def _answer(self, question: str) -> Answer:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [self.python, self.script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            # A group of its own, so that the processes it starts can be ended with it.
            start_new_session=True,
        )
        try:
            output, complaints = process.communicate(question, self.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ContenderError(f"it did not finish in {self.timeout_s:g} s") from error
        finally:
            end_group(process)
        if process.returncode:
            last = complaints.strip().splitlines() or ["no message"]
            raise ContenderError(f"its worker ended with {process.returncode}: {last[-1]}")
        try:
            return Answer.model_validate_json(output)
        except ValidationError as error:
            raise ContenderError(f"its worker gave no answer: {describe(error)}") from error


def end_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End what is left of a process's group, and wait for the process itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
