"""Contenders in turn, A B C A B C, so that a machine whose speed drifts drifts for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median

from cloister_simulations.benchmarks.dp_step.contenders import Allocator
from cloister_simulations.benchmarks.dp_step.team import Worker, team
from cloister_simulations.benchmarks.dp_step.workload import Shape
from cloister_simulations.progress import Reporter


@dataclass(frozen=True)
class Timing:
    """Seconds of a contender's steps of one shape, in the order in which it took them.

    ``peak_bytes`` is what the steps held at most above what the process held before, where it had
    been fresh.
    """

    allocator: str
    contender: str
    shape: Shape
    seconds: Sequence[float]
    peak_bytes: float | None

    @property
    def median_s(self) -> float:
        """Median seconds."""
        return median(self.seconds)


def time_contenders(
    allocator: Allocator, shapes: Sequence[Shape], rounds: int, reporter: Reporter
) -> list[Timing]:
    """Every contender's ``rounds`` at every shape, in fresh processes that stay for all shapes."""
    timings: list[Timing] = []
    with team(allocator) as workers:
        turns = sum(worker.contender.turns for worker in workers)
        reporter.begin(f"{allocator.name} allocator", len(shapes) * rounds * turns)
        done = count(1)
        for shape in shapes:
            seconds = take_turns(workers, shape, rounds, lambda: reporter.reach(next(done)))
            timings += [
                Timing(
                    allocator=allocator.name,
                    contender=worker.contender.name,
                    shape=shape,
                    seconds=taken,
                    peak_bytes=worker.peak() if shape == shapes[0] else None,
                )
                for worker, taken in zip(workers, seconds, strict=True)
            ]
    return timings


def take_turns(
    workers: Sequence[Worker], shape: Shape, rounds: int, after_each: Callable[[], None]
) -> list[list[float]]:
    """Seconds of every step of every worker; those with several turns a round warm up first.

    The others' steps take seconds: the first is hardly longer, and the median of three leaves it
    out.
    """
    for worker in workers:
        worker.prepare(shape)
        if worker.contender.turns > 1:
            worker.step()
    seconds: list[list[float]] = [[] for _ in workers]
    for _ in range(rounds):
        for turn in range(max(worker.contender.turns for worker in workers)):
            for worker, taken in zip(workers, seconds, strict=True):
                if turn < worker.contender.turns:
                    taken.append(worker.step())
                    after_each()
    return seconds
