"""A consortium is upgraded one machine after another while a run goes on: nodes first."""

from pathlib import Path

import pytest
from tests.system.deploy.processes import Consortium, ended
from tests.system.deploy.releases import BEFORE, NEXT, THIS
from tests.system.deploy.trees import check_accounts, new_run, records, rounds_with
from tests.waiting import until

from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.journal import Event, read

pytestmark = [pytest.mark.deploy, pytest.mark.xdist_group("upgrade")]

PATIENCE_S = 180.0
NAMES = ("elm", "oak")


class Mixed(Consortium):
    """A consortium whose members are of releases of their own."""

    def start_of(self, name: str, release: str) -> None:
        """Start a node, or the runner, anew with another release."""
        if name in self.running:
            self.kill(name)
        role = "runner" if name == "runner" else "node"
        folder = self.home.path if name == "runner" else self.nodes[name].path
        self.start(name, "-m", "tests.system.deploy.releases", role, str(folder), release)


@pytest.fixture
def mixed(tmp_path: Path):
    one = Mixed(tmp_path)
    one.start_link()
    for name in NAMES:
        one.join(name)
    yield one
    one.close()


def is_connected(node: Path) -> bool:
    journal = read(node / "log" / "fleet.jsonl", 100)
    return any(one["event"] == Event.CONNECTED for one in journal)


def until_all_take_part_again(folder: RunFolder, upgraded: str) -> None:
    wanted = {name: rounds_with(folder, name) + 2 for name in NAMES}
    until(
        lambda: all(rounds_with(folder, name) >= wanted[name] for name in NAMES),
        f"all take part once {upgraded} is upgraded",
        PATIENCE_S,
    )


def test_nodes_are_upgraded_first_then_the_coordinator_and_the_run_goes_on(mixed: Mixed) -> None:
    for name in (*NAMES, "runner"):
        mixed.start_of(name, BEFORE)
    folder = mixed.order(new_run("autumn", 200, NAMES))
    until(lambda: rounds_with(folder, "oak") > 0, "all of the release before", PATIENCE_S)
    for upgraded in (*NAMES, "runner"):
        mixed.start_of(upgraded, THIS)
        until_all_take_part_again(folder, upgraded)
    folder.want(Wanted.STOPPED)
    assert ended(folder) is Phase.STOPPED, folder.status.reason
    check_accounts(folder, mixed.nodes)


def test_a_node_that_was_not_upgraded_refuses_the_next_release_and_both_sides_say_so(
    mixed: Mixed,
) -> None:
    mixed.start_of("elm", NEXT)
    mixed.start_of("oak", THIS)
    # One that refuses is a quorum of its own, as long as it is there alone.
    until(lambda: is_connected(mixed.nodes["elm"].path), "elm is there", PATIENCE_S)
    mixed.start_of("runner", NEXT)
    folder = mixed.order(new_run("autumn", 200, NAMES))
    until(lambda: rounds_with(folder, "elm") > 1, "elm takes part", PATIENCE_S)
    until(lambda: "oak" in records(folder)[-1].rejected, "oak refuses", PATIENCE_S)
    assert records(folder)[-1].rejected["oak"] == "refused: bundle"
    journal = read(mixed.nodes["oak"].path / "log" / "fleet.jsonl", 100)
    assert {one["code"] for one in journal if one["event"] == "refused"} == {"bundle"}
    assert rounds_with(folder, "oak") == 0

    mixed.start_of("oak", NEXT)
    until(lambda: rounds_with(folder, "oak") > 0, "oak takes part once upgraded", PATIENCE_S)
    folder.want(Wanted.STOPPED)
    assert ended(folder) is Phase.STOPPED, folder.status.reason
    check_accounts(folder, mixed.nodes)
