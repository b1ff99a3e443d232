"""Models from run to school and back: promoted, rolled back and served, with real processes."""

from pathlib import Path

import pytest
from tests.system.consortium import BUDGET, NAMES, write_audit
from tests.system.deploy.processes import Consortium, consortium, ended
from tests.system.deploy.test_rounds import first_round
from tests.waiting import until

from cloister_server.checkpoint import RunState
from cloister_server.run_folder import Phase
from cloister_shared.plan import Plan

pytestmark = pytest.mark.deploy
RUNS = ("autumn", "winter")


def small_run(name: str) -> RunState:
    """A run of one round; all of them together fit the nodes' budget."""
    state = first_round(name, rounds=1)
    document = state.plan.model_dump(mode="json")
    document["models"][0]["mechanism"]["noise_multiplier"] = BUDGET.calibrate(0.5, 1, len(RUNS) + 1)
    return RunState(Plan.model_validate(document), state.weights)


def finish(running: Consortium, name: str) -> str:
    """Do a run; the version of the tracer that it made."""
    state = small_run(name)
    folder = running.order(state)
    write_audit(folder.audit, state.plan.models[0].mechanism, running.nodes["oak"])
    assert ended(folder) is Phase.FINISHED, folder.status.reason
    choice = running.home.models().active()
    assert choice is not None
    return choice.models["dkt"]


def served(running: Consortium) -> set[str | None]:
    """The versions that the schools serve."""
    found = set()
    for home in running.nodes.values():
        with home.store() as store:
            found.add(store.active_version("dkt"))
    return found


def test_schools_serve_what_was_promoted_and_go_back_in_one_step(tmp_path: Path) -> None:
    with consortium(tmp_path, NAMES) as running:
        first, second = (finish(running, name) for name in RUNS)
        assert first != second
        until(lambda: served(running) == {second}, "the schools serve the second version", 60.0)
        running.kill("elm")
        running.home.models().rollback()
        until(lambda: first in served(running), "the school that is there goes back", 60.0)
        running.start_node("elm")
        until(lambda: served(running) == {first}, "the school that was away goes back", 60.0)
