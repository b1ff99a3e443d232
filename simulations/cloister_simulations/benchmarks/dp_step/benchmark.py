"""The benchmark ``dp-step``: from fresh processes to rows and figures."""

from collections.abc import Sequence

from pydantic import JsonValue

from cloister_simulations.benchmarks.dp_step.contenders import DEFAULT, TUNED
from cloister_simulations.benchmarks.dp_step.figures import figures, rows
from cloister_simulations.benchmarks.dp_step.timings import time_contenders
from cloister_simulations.benchmarks.dp_step.workload import Shape, cores
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine
from cloister_simulations.progress import Reporter

SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (256, 200, 200),
        (256, 200, 100),
        (256, 100, 100),
        (64, 200, 200),
        (64, 100, 100),
    )
)
"""The largest first: fresh processes take it, and their peak memory is measured."""
DEFAULT_ROUNDS = 1
"""A step of Opacus's takes up to a minute while every block is mapped afresh."""


def run(repeats: int, reporter: Reporter, shapes: Sequence[Shape] = SHAPES) -> BenchmarkResult:
    """Time all contenders with both allocators' settings, ``repeats`` rounds with the tuned one."""
    where = _machine()
    timings = [
        *time_contenders(TUNED, shapes, repeats, reporter),
        *time_contenders(DEFAULT, shapes, DEFAULT_ROUNDS, reporter),
    ]
    return BenchmarkResult(
        benchmark="dp-step", figures=figures(timings), rows=rows(timings), machine=where
    )


def _machine() -> dict[str, JsonValue]:
    """Where this runs, the load before it began, and what is set for each contender."""
    settings: dict[str, JsonValue] = {
        allocator.name: {
            contender.name: {
                **allocator.settings(contender),
                "keep_freed_memory": allocator.keeps_freed_memory(contender),
            }
            for contender in allocator.contenders
        }
        for allocator in (TUNED, DEFAULT)
    }
    return {**machine("by row"), "threads": cores(), "settings": settings}
