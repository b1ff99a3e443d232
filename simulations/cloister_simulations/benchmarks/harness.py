"""Timing contenders in turn, so that a machine whose speed drifts drifts for all of them."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch
from pydantic import JsonValue

from cloister_shared.frozen import Frozen
from cloister_simulations.result import Figure

LIBRARIES = ("torch", "opacus", "flwr", "numpy", "cryptography")


class BenchmarkResult(Frozen):
    """What a benchmark measured: rows for people, ``figures`` by name for machines.

    ``notes`` say what was left out, and why.
    """

    benchmark: str
    figures: dict[str, Figure]
    rows: tuple[dict[str, float | str | None], ...]
    notes: tuple[str, ...] = ()
    machine: dict[str, JsonValue]


def interleaved(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each contender over ``repeats`` rounds A B C A B C, after one warm-up."""
    for run in contenders.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(measured) for name, measured in times.items()}


def machine(allocator: str) -> dict[str, JsonValue]:
    """Where a benchmark ran; ``allocator`` says how glibc's was set."""
    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1_min": os.getloadavg()[0],
        "allocator": allocator,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
