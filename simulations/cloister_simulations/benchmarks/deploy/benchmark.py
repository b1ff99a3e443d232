"""``cloister bench deploy``: what a consortium of real processes takes, figure by figure."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from cloister_shared.errors import ConfigError
from cloister_simulations.benchmarks.deploy.compression import auc_losses, bytes_over_float32
from cloister_simulations.benchmarks.deploy.memory import coordinator_peak
from cloister_simulations.benchmarks.deploy.rounds import stock_rounds, warm_rounds
from cloister_simulations.benchmarks.deploy.serving import answer_times
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine
from cloister_simulations.progress import Reporter

WARM, STOCK = 20, 3
"""Rounds that are timed."""
ANSWERS = 600
"""Of the service of a node whose trainer rests."""
FEW, MANY = 20, 200
"""Nodes whose coordinator's memory is compared."""

Row = dict[str, float | str | None]
Measured = tuple[dict[str, float], list[Row]]
"""Figures by name, and what they are made of."""


def run(parts: Sequence[str], reporter: Reporter) -> BenchmarkResult:
    """Measure ``parts``, or all if none is named; ``ConfigError`` for one that is not known."""
    unknown = sorted(set(parts).difference(PARTS))
    if unknown:
        raise ConfigError(f"there is no part {', '.join(unknown)}; known: {', '.join(PARTS)}")
    measured = [PARTS[name](reporter) for name in PARTS if not parts or name in parts]
    return BenchmarkResult(
        benchmark="deploy",
        figures={name: figure for figures, _ in measured for name, figure in figures.items()},
        rows=tuple(row for _, rows in measured for row in rows),
        machine=machine("default"),
    )


def _compression(reporter: Reporter) -> Measured:
    shares = bytes_over_float32()
    losses = auc_losses(reporter)
    figures = {
        "bytes_over_float32": max(shares.values()),
        "auc_loss_from_compression": statistics.mean(loss for _, loss in losses),
    }
    rows = [_row(f"bytes {way}", share, "of float32") for way, share in shares.items()]
    for seed, (exact, loss) in enumerate(losses, start=1):
        rows.append(_row(f"seed {seed}, float32", exact, "AUC"))
        rows.append(_row(f"seed {seed}, lost by int8", loss, "AUC"))
    return figures, rows


def _warm(reporter: Reporter) -> Measured:
    reporter.begin("warm rounds", 2)
    compressed = warm_rounds(WARM, "int8")
    reporter.reach(1)
    plain = warm_rounds(WARM, "none")
    reporter.reach(2)
    rows = [*_spread("warm round, int8", compressed), *_spread("warm round, float32", plain)]
    return {"warm_round_s": statistics.median(compressed)}, rows


def _stock(reporter: Reporter) -> Measured:
    reporter.begin("stock rounds", 1)
    seconds = stock_rounds(STOCK)
    reporter.reach(1)
    rows = list(_spread("stock round, float32", seconds))
    return {"stock_round_s": statistics.median(seconds)}, rows


def _memory(reporter: Reporter) -> Measured:
    rows, total = [], 0.0
    for nodes in (FEW, MANY):
        peaks = coordinator_peak(nodes, "none", reporter)
        total = sum(peaks.values())
        rows += [_row(f"{nodes} nodes, peak of {name}", one, "GiB") for name, one in peaks.items()]
    return {"coordinator_peak_gib": total}, rows


def _serving(reporter: Reporter) -> Measured:
    reporter.begin("answers of a service", 1)
    resting, training = answer_times(ANSWERS)
    reporter.reach(1)
    rows, late = [], []
    for what, seconds in (("resting", resting), ("training", training)):
        late.append(statistics.quantiles(seconds, n=20)[-1])
        rows.append(
            _row(f"{what}, median of {len(seconds)}", 1000 * statistics.median(seconds), "ms")
        )
        rows.append(_row(f"{what}, 95th percentile", 1000 * late[-1], "ms"))
    return {"serving_p95_ms": 1000 * late[1], "serving_p95_over_resting": late[1] / late[0]}, rows


PARTS: dict[str, Callable[[Reporter], Measured]] = {
    "compression": _compression,
    "warm": _warm,
    "stock": _stock,
    "memory": _memory,
    "serving": _serving,
}


def _spread(what: str, seconds: Sequence[float]) -> Iterator[Row]:
    yield _row(f"{what}, median of {len(seconds)}", statistics.median(seconds), "s")
    yield _row(f"{what}, least", min(seconds), "s")
    yield _row(f"{what}, most", max(seconds), "s")


def _row(measured: str, value: float, unit: str) -> Row:
    return {"measured": measured, "value": value, "unit": unit}
