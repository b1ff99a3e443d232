"""A contender's process: ``python -m … MODULE:CLASS [keep-freed-memory]``, told what to do by line.

``prepare LEARNERS LONGEST HIDDEN`` makes the contender's model, ``step`` takes one step and answers
with its seconds, ``peak`` answers with the bytes that the steps since ``prepare`` held at most.
Every answer is a line with a number, 0 where there is nothing to say; the first one says: ready.
"""

import os
import pkgutil
import sys
import time
import warnings
from collections.abc import Callable
from typing import TextIO

import torch

from cloister_simulations.benchmarks.dp_step.peak_memory import PeakMemory
from cloister_simulations.benchmarks.dp_step.workload import Shape, Trainee, cores

KEEP = "keep-freed-memory"


class Process:
    """One contender, with the model of the last shape that it was prepared for."""

    def __init__(self, make: Callable[[Shape], Trainee]) -> None:
        self._make = make
        self._trainee: Trainee | None = None
        self._memory = PeakMemory()

    def prepare(self, *shape: str) -> float:
        """Forget the last model and make one of ``shape``."""
        self._trainee = None
        torch.manual_seed(0)
        self._trainee = self._make(Shape(*map(int, shape)))
        self._memory = PeakMemory()
        return 0

    def step(self) -> float:
        """Seconds of one step."""
        if self._trainee is None:
            raise RuntimeError("a step before there is a model")
        began = time.perf_counter()
        self._trainee.step()
        return time.perf_counter() - began

    def peak(self) -> float:
        """Bytes that the steps so far held at most."""
        return self._memory.bytes()


def main() -> None:
    """Answer orders until stdin ends."""
    answers = _claimed_stdout()
    # Opacus's hooks, on inputs without a gradient.
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    torch.set_num_threads(cores())
    contender, *settings = sys.argv[1:]
    if KEEP in settings:
        # Imported late: the others' processes hold nothing of our engines.
        from cloister_client.training.process import keep_freed_memory  # noqa: PLC0415

        keep_freed_memory()
    process = Process(pkgutil.resolve_name(contender))
    _answer(answers, 0)
    for line in sys.stdin:
        order, *arguments = line.split()
        _answer(answers, getattr(process, order)(*arguments))


def _claimed_stdout() -> TextIO:
    """What stdout was; whatever a library prints goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(stream: TextIO, answer: float) -> None:
    stream.write(f"{answer!r}\n")
    stream.flush()


if __name__ == "__main__":
    main()
