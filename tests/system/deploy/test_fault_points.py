"""Nodes and runners that die at named points, one after another: charged, repeated by none."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.deploy import mortal
from tests.system.deploy.trees import (
    COORDINATOR,
    PATIENCE_S,
    Trees,
    begin,
    end,
    goes_on,
    new_run,
    rounds_of,
    trees,
)
from tests.waiting import until

pytestmark = [pytest.mark.deploy, pytest.mark.xdist_group("fault points")]

POINTS = ("pulled", "reserved", "made", "committed", "unsent")
"""Where a node may die over a request: before its trainer has it, in the trainer, after it. All
points within are those of tests/system/test_crash.py."""


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trees]:
    with trees(tmp_path_factory.mktemp("consortium")) as running:
        yield running


def start_until_all_died(consortium: Trees, name: str, role: str, deaths: Path) -> None:
    """Start a mortal process again and again, until it has died at every point; then it lives."""
    command = ("-m", "tests.system.deploy.mortal", role, str(deaths.parent))
    consortium.start(name, *command)

    def all_died() -> bool:
        if consortium.running[name].poll() is not None:
            consortium.start(name, *command)
        return not mortal.points_left(deaths)

    until(all_died, "all have died", 4 * PATIENCE_S)
    consortium.running[name].wait()  # of the last point
    consortium.start(name, *command)


def test_a_node_killed_at_any_point_of_an_answer_is_charged_and_the_run_goes_on(
    consortium: Trees,
) -> None:
    """Fleet process and trainer die one after another at every point; both come back."""
    folder = begin(consortium, "points-of-a-node", rounds=2000)
    consortium.kill("oak", signal.SIGTERM)
    deaths = consortium.path("oak") / mortal.DEATHS
    mortal.put(deaths, POINTS)
    start_until_all_died(consortium, "oak", "fleet", deaths)
    goes_on(folder)
    end(consortium, folder)
    charged, kept = rounds_of(folder, consortium.nodes["oak"])
    assert len(charged) >= len(kept) + 2, "what died before its COMMIT is charged"
    consortium.kill("oak", signal.SIGTERM)
    consortium.up("oak")


def test_a_runner_killed_at_any_point_of_a_round_repeats_none(consortium: Trees) -> None:
    points = ("asking", "asked", "received", "learning", "recording")
    deaths = consortium.home.path / mortal.DEATHS
    consortium.kill(COORDINATOR, signal.SIGTERM)
    consortium.start_link()
    mortal.put(deaths, points)
    folder = consortium.order(new_run("points-of-a-runner", 2000))
    start_until_all_died(consortium, "runner", "runner", deaths)
    goes_on(folder)
    end(consortium, folder)
    consortium.kill("runner", signal.SIGTERM)
    consortium.kill("link", signal.SIGTERM)
    consortium.up(COORDINATOR)
