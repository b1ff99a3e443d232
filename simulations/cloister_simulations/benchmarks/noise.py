"""Noise from the operating system's generator: milliseconds per 100,000 coordinates of a release.

With the release's way onto its grid; both kinds. Freed memory is kept, as where a node trains.
"""

import numpy as np

from cloister_client.training.process import keep_freed_memory
from cloister_shared.privacy.noise import SystemNoise
from cloister_shared.privacy.release import noised
from cloister_simulations.benchmarks.harness import BenchmarkResult, interleaved, machine

COORDINATES = 100_000


def run(repeats: int = 50) -> BenchmarkResult:
    """Ours beside numpy's generator, which may not be used for noise: it can be searched out."""
    allocator = "kept" if keep_freed_memory() else "default"
    source, insecure = SystemNoise(), np.random.default_rng(0)
    total = np.zeros(COORDINATES)
    seconds = interleaved(
        {
            "ours": lambda: noised(total, 1.0, 1.0, "gaussian", source),
            "discrete": lambda: noised(total, 1.0, 1.0, "discrete_gaussian", source),
            "numpy_insecure": lambda: insecure.standard_normal(COORDINATES),
        },
        repeats,
    )
    figures = {
        "noise_ms_per_100k": 1000 * seconds["ours"],
        "discrete_noise_ms_per_100k": 1000 * seconds["discrete"],
        "noise_over_numpy": seconds["ours"] / seconds["numpy_insecure"],
    }
    row = {f"{name}_ms": 1000 * one for name, one in seconds.items()}
    return BenchmarkResult(
        benchmark="noise", figures=figures, rows=(row,), machine=machine(allocator)
    )
