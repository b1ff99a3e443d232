"""Workers that stay warm and compute one at a time: each waits at its pipe until it is told."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cloister_shared.errors import RunError
from cloister_simulations.benchmarks.dp_step.contenders import Allocator, Contender
from cloister_simulations.benchmarks.dp_step.worker import KEEP
from cloister_simulations.benchmarks.dp_step.workload import Shape

_SETTLE_S = 0.02
"""OpenMP's threads spin for a while after a step (about 1 ms in libgomp); then it is quiet."""


class Worker:
    """A contender's process, as the command sees it; ``worker`` has the orders."""

    def __init__(self, contender: Contender, allocator: Allocator) -> None:
        self.contender = contender
        where = f"{__package__}.{contender.where}"
        keep = [KEEP] if allocator.keeps_freed_memory(contender) else []
        # A file and not a pipe, which would fill: nobody reads it before the end.
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", f"{__package__}.worker", where, *keep],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=allocator.whole_environment(contender),
        )

    def prepare(self, shape: Shape) -> None:
        """Make a model of this shape and its learners' answers."""
        self._ask("prepare", *map(str, shape))

    def step(self) -> float:
        """Seconds of one step."""
        time.sleep(_SETTLE_S)
        return self._ask("step")

    def peak(self) -> int:
        """Bytes that the steps since ``prepare`` held at most, above those before them."""
        return int(self._ask("peak"))

    def answer(self) -> float:
        """The next number it says; ``RunError`` with its last complaint if it has ended."""
        line = next(iter(self._process.stdout or ()), None)
        if line is None:
            raise self._ended()
        return float(line)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def _ask(self, *order: str) -> float:
        try:
            print(*order, file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise self._ended() from error
        return self.answer()

    def _ended(self) -> RunError:
        code = self._process.wait()
        self._complaints.seek(0)
        last = self._complaints.read().strip().splitlines() or ["no message"]
        return RunError(f"the process of {self.contender.name} ended with {code}: {last[-1]}")


@contextmanager
def team(allocator: Allocator) -> Iterator[list[Worker]]:
    """A worker for each contender, all ready; ended afterwards."""
    with ExitStack() as running:
        workers = []
        for contender in allocator.contenders:
            workers.append(Worker(contender, allocator))
            running.callback(workers[-1].end)
        for worker in workers:
            worker.answer()
        yield workers
