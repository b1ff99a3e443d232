"""The deployment's benchmark measures what it says it does; how much that is, is not tested."""

import pytest

from cloister_simulations.benchmarks.deploy.memory import coordinator_peak
from cloister_simulations.benchmarks.deploy.rounds import stock_rounds, warm_rounds
from cloister_simulations.benchmarks.deploy.serving import answer_times
from cloister_simulations.progress import Silent

pytestmark = pytest.mark.deploy


def test_warm_rounds_are_timed_one_by_one() -> None:
    seconds = warm_rounds(2, "int8")
    assert len(seconds) == 2
    assert min(seconds) > 0


def test_rounds_under_flowers_own_commands_are_timed() -> None:
    assert len(stock_rounds(1)) == 1


def test_memory_is_that_of_all_of_the_coordinators_processes() -> None:
    peaks = coordinator_peak(2, "int8", Silent())
    assert {"link", "runner", "supervisor"} <= peaks.keys()
    assert all(0.01 < gib < 1 for gib in peaks.values())


def test_answers_are_timed_at_rest_and_while_the_node_trains() -> None:
    resting, training = answer_times(10, rounds=1)
    assert len(resting) == 10
    assert len(training) >= 1
