"""dp-step: a process for every contender, the same work for all, figures as documented."""

import mmap
import pkgutil
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from cloister_shared.errors import RunError
from cloister_simulations.benchmarks.dp_step import benchmark
from cloister_simulations.benchmarks.dp_step.contenders import (
    DEFAULT,
    FLOOR,
    HOOKS,
    PRIVATE,
    TUNED,
    Allocator,
    Contender,
)
from cloister_simulations.benchmarks.dp_step.figures import figures, rows
from cloister_simulations.benchmarks.dp_step.one_hot import NonPrivate, losses
from cloister_simulations.benchmarks.dp_step.opacus_dplstm import Ghost, Hooks
from cloister_simulations.benchmarks.dp_step.peak_memory import PeakMemory
from cloister_simulations.benchmarks.dp_step.team import team
from cloister_simulations.benchmarks.dp_step.timings import Timing, time_contenders
from cloister_simulations.benchmarks.dp_step.workload import FILL, Shape, histories, pad
from cloister_simulations.progress import Silent

TINY = Shape(4, 6, 3)
FIGURES = {
    "dp_step_vs_opacus",
    "dp_step_vs_opacus_default_malloc",
    "dp_step_vs_opacus_ghost",
    "dp_step_over_nn_lstm",
    "dp_step_over_nn_lstm_default_malloc",
    "dp_step_plain_over_nn_lstm",
    "dp_step_over_floor",
    "dp_step_memory_over_nn_lstm",
    "dp_step_memory_vs_opacus",
}


def one_contender(contender: Contender, **environment: str) -> Allocator:
    return Allocator("default", (contender,), environment, as_product=False)


def made_up(shape: Shape, seconds: dict[str, Sequence[float]], peak: float | None) -> list[Timing]:
    return [
        Timing(
            allocator=allocator.name,
            contender=contender.name,
            shape=shape,
            seconds=seconds.get(contender.name, [1.0]),
            peak_bytes=peak,
        )
        for allocator in (TUNED, DEFAULT)
        for contender in allocator.contenders
    ]


def test_every_contender_takes_its_turns_and_is_weighed_in_a_process_of_its_own() -> None:
    timings = time_contenders(DEFAULT, [TINY], 1, Silent())
    assert [one.contender for one in timings] == [one.name for one in DEFAULT.contenders]
    for one, contender in zip(timings, DEFAULT.contenders, strict=True):
        assert len(one.seconds) == contender.turns
        assert all(second > 0 for second in one.seconds)
        assert one.peak_bytes is not None
        assert one.peak_bytes >= 0


@pytest.mark.parametrize("contender", TUNED.contenders, ids=lambda one: one.name)
def test_every_contender_can_take_a_step(contender: Contender) -> None:
    make = pkgutil.resolve_name(f"cloister_simulations.benchmarks.dp_step.{contender.where}")
    make(TINY).step()


@pytest.mark.slow
def test_the_whole_benchmark_gives_every_figure_of_its_name() -> None:
    result = benchmark.run(1, Silent(), [Shape(8, 12, 5), TINY])
    assert result.figures.keys() == FIGURES
    assert all(figure and figure > 0 for figure in result.figures.values())
    assert len(result.rows) == 2 * (len(TUNED.contenders) + len(DEFAULT.contenders))
    settings = result.machine["settings"]
    assert isinstance(settings, dict)
    assert settings.keys() == {"tuned", "default"}


def test_a_figure_is_a_geometric_mean_of_ratios_of_medians() -> None:
    timings = [
        *made_up(Shape(2, 2, 2), {"opacus_hooks": [8.0, 2.0, 9.0], "gemm_floor": [0.5]}, 10.0),
        *made_up(Shape(1, 1, 1), {"opacus_hooks": [2.0], "gemm_floor": [0.5]}, None),
    ]
    found = figures(timings)
    assert found.keys() == FIGURES
    assert found["dp_step_vs_opacus"] == pytest.approx(4.0)
    assert found["dp_step_over_floor"] == pytest.approx(2.0)
    assert found["dp_step_over_nn_lstm"] == 1.0
    assert found["dp_step_memory_over_nn_lstm"] == 1.0


def test_a_row_has_the_median_the_spread_and_how_many_times_ours_it_takes() -> None:
    seconds = {"opacus_hooks": [0.3, 0.1, 0.2], "ours_private": [0.1]}
    found = rows(made_up(TINY, seconds, 2.0**20))[0]
    assert found == {
        "allocator": "tuned",
        "B": 4,
        "T": 6,
        "H": 3,
        "contender": "opacus_hooks",
        "steps": 3,
        "ms": 200.0,
        "min_ms": 100.0,
        "max_ms": 300.0,
        "over_ours": 2.0,
        "peak_mib": 1.0,
    }


def test_tuned_sets_the_same_for_all_and_default_sets_for_ours_what_the_product_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("LANG", "C")
    theirs, ours = DEFAULT.whole_environment(HOOKS), DEFAULT.whole_environment(PRIVATE)
    assert theirs["LANG"] == ours["LANG"] == "C"
    assert not {"OMP_WAIT_POLICY", "MALLOC_ARENA_MAX"} & theirs.keys()
    assert ours == {**theirs, "OMP_WAIT_POLICY": "PASSIVE"}
    assert DEFAULT.keeps_freed_memory(PRIVATE)
    assert not any(DEFAULT.keeps_freed_memory(one) for one in DEFAULT.contenders if not one.ours)
    for contender in TUNED.contenders:
        assert TUNED.environment.items() <= TUNED.whole_environment(contender).items()
        assert not TUNED.keeps_freed_memory(contender)


def test_a_process_that_cannot_start_or_dies_says_which_and_why() -> None:
    absent = Contender("an absent one", "absent:Thing", turns=1)
    with (
        pytest.raises(RunError, match=r"an absent one ended with 1: ModuleNotFoundError: .*absent"),
        team(one_contender(absent)),
    ):
        pass
    with (
        team(one_contender(FLOOR)) as (worker,),
        pytest.raises(RunError, match=r"gemm_floor ended with 1: .*negative dimension"),
    ):
        worker.prepare(Shape(1, 1, -1))


def test_peak_memory_counts_what_was_held_at_once_and_has_been_freed() -> None:
    """In pages of its own: this process may have kept what other tests freed."""
    with mmap.mmap(-1, 20 << 20) as spent:
        spent.write(bytes(len(spent)))
    ones = b"1" * (1 << 20)
    memory = PeakMemory()
    with mmap.mmap(-1, 50 << 20) as held:
        for _ in range(50):
            held.write(ones)
    assert memory.bytes() == pytest.approx(50 << 20, rel=0.05)


def test_opacus_in_hooks_and_ghost_mode_makes_the_same_step() -> None:
    weights = []
    for kind in (Hooks, Ghost):
        torch.manual_seed(0)
        trainee = kind(TINY)
        trainee.step()
        weights.append([one.detach() for one in trainee.module.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other)


def test_padding_for_the_others_neither_adds_nor_loses_answers() -> None:
    ragged = histories(TINY)
    module = NonPrivate(TINY).module
    alone = torch.cat([losses(module, pad([history])) for history in ragged])
    torch.testing.assert_close(losses(module, pad(ragged)), alone)


def test_histories_fill_the_stated_share_of_the_padding() -> None:
    for shape in benchmark.SHAPES:
        lengths = [len(history) for history in histories(shape)]
        assert (len(lengths), max(lengths)) == (shape.learners, shape.longest)
        assert np.mean(lengths) / shape.longest == pytest.approx(FILL, abs=0.06)
