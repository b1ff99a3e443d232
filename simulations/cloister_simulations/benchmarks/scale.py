"""How a fleet grows: wall-clock a client and peak memory, from ten clients to a hundred thousand.

Every size runs in a process of its own over clients in files: devices of one learner that take one
step of knowledge tracing each, with one central noise. The large sizes take turns with a small one,
so that a machine whose speed drifts drifts for both.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from cloister_client.histories import History
from cloister_client.training.process import keep_freed_memory
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy.mechanism import Mechanism
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine
from cloister_simulations.benchmarks.skills import curriculum_of
from cloister_simulations.fleet import FileClients, Fleet, client_trainer, run_fleet
from cloister_simulations.progress import Reporter

SIZES = (10, 100, 1000, 10_000, 100_000)
SMALL, LARGE = 1000, 100_000
"""The two sizes that the figures compare."""
SKILLS, HIDDEN = 100, 32
ANSWERS = (20, 80)
"""Fewest and most answers of a client."""
STEPS = 200_000
"""Client updates that a size is timed over, if that is more than one round."""
_FEWEST_ROUNDS = 2


def run(reporter: Reporter, sizes: Sequence[int] = SIZES, repeats: int = 2) -> BenchmarkResult:
    """Milliseconds a client and peak memory by size, and their ratios."""
    turns = [size for _ in range(repeats) for size in sizes]
    measured: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    reporter.begin("sizes", len(turns))
    for number, size in enumerate(turns, start=1):
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
            measured[size].append(fresh.submit(measure, size).result())
        reporter.reach(number)
    rows = [
        {
            "clients": float(size),
            "ms_per_client": statistics.median(time for time, _ in runs),
            "peak_memory_mib": max(memory for _, memory in runs),
        }
        for size, runs in measured.items()
    ]
    return BenchmarkResult(
        benchmark="scale", figures=_figures(rows), rows=tuple(rows), machine=machine("kept")
    )


def measure(clients: int) -> tuple[float, float]:
    """Milliseconds a client update in a round after the first, and the process's peak MiB.

    Run in a fresh process: the peak is over its whole life, imports included.
    """
    keep_freed_memory()
    torch.set_num_threads(os.cpu_count() or 1)
    rounds = max(_FEWEST_ROUNDS, min(30, STEPS // clients))
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        FileClients.write(Path(folder, "clients"), _clients(clients), skills=1)
        stored = FileClients(Path(folder, "clients"))
        plan, curriculum = _plan(clients, rounds), curriculum_of(SKILLS)
        model = plan.models[0]
        fleet = Fleet(stored, {"dkt": client_trainer(model, devices=True)}, seed=0)
        initial = {"dkt": model.spec.initial_weights(curriculum, seed=0)}
        run_fleet(plan, initial, fleet, Path(folder), lambda *_: ends.append(time.perf_counter()))
    seconds = statistics.median(after - before for before, after in pairwise(ends))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return 1000 * seconds / clients, peak


def _figures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    by_size = {int(row["clients"]): row for row in rows}
    if not {SMALL, LARGE} <= by_size.keys():
        return {}
    small, large = by_size[SMALL], by_size[LARGE]
    return {
        "scale_time_per_client": large["ms_per_client"] / small["ms_per_client"],
        "scale_peak_memory": large["peak_memory_mib"] / small["peak_memory_mib"],
        "scale_peak_gib": large["peak_memory_mib"] / 1024,
    }


def _clients(count: int) -> Iterator[tuple[int, list[History]]]:
    """Synthetic devices, made one at a time."""
    random = np.random.default_rng(0)
    for _ in range(count):
        length = int(random.integers(*ANSWERS))
        skills = random.integers(0, SKILLS, length).astype(np.int32)
        correct = (random.random(length) < 0.6).astype(np.float32)
        yield 1, [History(skills, skills[:, None], correct, np.arange(length, dtype=np.float64))]


def _plan(clients: int, rounds: int) -> Plan:
    model = ModelPlan(
        spec=DktSpec(skills=SKILLS, hidden=HIDDEN),
        rounds=rounds,
        mechanism=Mechanism(noise_multiplier=1.0, clip_norm=0.1, sampling_rate=1.0),
        local=LocalTraining(learning_rate=0.1),
    )
    return Plan(
        run="scale",
        curriculum=curriculum_of(SKILLS).digest,
        models=(model,),
        declared_sizes={"fleet": clients},
        quorum=1,
    )
