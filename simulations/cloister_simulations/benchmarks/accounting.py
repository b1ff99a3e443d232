"""What a node waits for before it can say yes or no: prices, calibration, reports.

The history is 10,000 events of 50 different (noise multiplier, sampling rate). Each figure is a
*cold* call, the first in a fresh process whose imports are done: what a command pays.
"""

import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from cloister_simulations.benchmarks.accounting_questions import (
    EVENTS,
    QUESTIONS,
    SETTINGS,
    time_once,
)
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine


def run(repeats: int = 3) -> BenchmarkResult:
    """Medians of cold calls."""
    seconds = {name: _cold(name, repeats) for name in QUESTIONS}
    figures = {
        "calibrate_ms": 1000 * seconds["calibrate"],
        "rounds_fit_ms": 1000 * seconds["rounds_fit"],
        "rdp_report_ms": 1000 * seconds["rdp_report"],
        "pld_s": seconds["pld"],
    }
    row = {"events": float(EVENTS), "settings": float(SETTINGS), **figures}
    return BenchmarkResult(
        benchmark="accounting", figures=figures, rows=(row,), machine=machine("default")
    )


def _cold(name: str, repeats: int) -> float:
    """Median seconds of the first answer of ``repeats`` fresh processes."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        return statistics.median(fresh.map(time_once, [name] * repeats))
