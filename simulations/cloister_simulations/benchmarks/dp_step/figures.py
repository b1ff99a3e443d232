"""What the timings come to: a row for each, and the figures by name."""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean

from cloister_simulations.benchmarks.dp_step.contenders import (
    DEFAULT,
    FLOOR,
    GHOST,
    HOOKS,
    NN_LSTM,
    PLAIN,
    PRIVATE,
    TUNED,
    Allocator,
    Contender,
)
from cloister_simulations.benchmarks.dp_step.timings import Timing

TIME_RATIOS: Mapping[str, tuple[Allocator, Contender, Contender]] = {
    "dp_step_vs_opacus": (TUNED, HOOKS, PRIVATE),
    "dp_step_vs_opacus_default_malloc": (DEFAULT, HOOKS, PRIVATE),
    "dp_step_vs_opacus_ghost": (TUNED, GHOST, PRIVATE),
    "dp_step_over_nn_lstm": (TUNED, PRIVATE, NN_LSTM),
    "dp_step_over_nn_lstm_default_malloc": (DEFAULT, PRIVATE, NN_LSTM),
    "dp_step_plain_over_nn_lstm": (TUNED, PLAIN, NN_LSTM),
    "dp_step_over_floor": (TUNED, PRIVATE, FLOOR),
}
"""Median time of the first contender over that of the second, a geometric mean over shapes."""
MEMORY_RATIOS: Mapping[str, tuple[Allocator, Contender, Contender]] = {
    "dp_step_memory_over_nn_lstm": (DEFAULT, PRIVATE, NN_LSTM),
    "dp_step_memory_vs_opacus": (DEFAULT, HOOKS, PRIVATE),
}
"""Peak memory of the first contender over that of the second, at the first shape."""


def figures(timings: Sequence[Timing]) -> dict[str, float]:
    """Every ratio by its name."""
    times = {
        name: geometric_mean(
            one.median_s / other.median_s for one, other in _pairs(timings, *compared)
        )
        for name, compared in TIME_RATIOS.items()
    }
    memory = {
        name: one.peak_bytes / other.peak_bytes
        for name, compared in MEMORY_RATIOS.items()
        for one, other in _pairs(timings, *compared)
        if one.peak_bytes and other.peak_bytes
    }
    return {**times, **memory}


def rows(timings: Sequence[Timing]) -> tuple[dict[str, float | str | None], ...]:
    """One row a timing: milliseconds, their spread, and how many times ours, private, they are."""
    ours = {
        (one.allocator, one.shape): one.median_s for one in timings if one.contender == PRIVATE.name
    }
    return tuple(
        {
            "allocator": one.allocator,
            "B": one.shape.learners,
            "T": one.shape.longest,
            "H": one.shape.hidden,
            "contender": one.contender,
            "steps": len(one.seconds),
            "ms": 1000 * one.median_s,
            "min_ms": 1000 * min(one.seconds),
            "max_ms": 1000 * max(one.seconds),
            "over_ours": one.median_s / ours[one.allocator, one.shape],
            "peak_mib": None if one.peak_bytes is None else one.peak_bytes / 2**20,
        }
        for one in timings
    )


def _pairs(
    timings: Sequence[Timing], allocator: Allocator, first: Contender, second: Contender
) -> list[tuple[Timing, Timing]]:
    """The two contenders' timings, shape by shape."""
    own = [one for one in timings if one.allocator == allocator.name]
    firsts, seconds = (
        [one for one in own if one.contender == contender.name] for contender in (first, second)
    )
    return list(zip(firsts, seconds, strict=True))
