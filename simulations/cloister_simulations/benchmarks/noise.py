"""Gaussian noise from the operating system's generator: milliseconds per 100,000 coordinates."""

import numpy as np

from cloister_shared.privacy.noise import SystemNoise, gaussian
from cloister_simulations.benchmarks.harness import BenchmarkResult, interleaved, machine

COORDINATES = 100_000


def run(repeats: int = 50) -> BenchmarkResult:
    """Ours beside numpy's generator, which may not be used for noise: it can be searched out."""
    source, insecure = SystemNoise(), np.random.default_rng(0)
    seconds = interleaved(
        {
            "ours": lambda: gaussian(source, COORDINATES),
            "numpy_insecure": lambda: insecure.standard_normal(COORDINATES),
        },
        repeats,
    )
    figures = {
        "noise_ms_per_100k": 1000 * seconds["ours"],
        "noise_over_numpy": seconds["ours"] / seconds["numpy_insecure"],
    }
    row = {f"{name}_ms": 1000 * one for name, one in seconds.items()}
    return BenchmarkResult(
        benchmark="noise", figures=figures, rows=(row,), machine=machine("default")
    )
