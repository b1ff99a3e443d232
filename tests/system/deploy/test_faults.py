"""Whatever dies, is cut off, is full or is wrong: the run goes on, and the books are right."""

import os
import resource
import signal
import time
from collections.abc import Iterator

import pytest
from tests.system.deploy.relay import Relay
from tests.system.deploy.trees import (
    COORDINATOR,
    PATIENCE_S,
    Trees,
    begin,
    check_accounts,
    end,
    goes_on,
    point_at,
    records,
    rounds_with,
    trees,
)
from tests.waiting import until

pytestmark = [pytest.mark.deploy, pytest.mark.xdist_group("faults")]

PARTITION_S = 60.0


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trees]:
    with trees(tmp_path_factory.mktemp("consortium")) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "process"),
    [
        (COORDINATOR, "link"),
        (COORDINATOR, "runner"),
        ("oak", "fleet"),
        ("oak", "trainer"),
        ("oak", "serve"),
    ],
)
def test_a_process_that_is_killed_comes_back_by_itself(
    consortium: Trees, name: str, process: str
) -> None:
    folder = begin(consortium, f"{name}-{process}")
    before = len(records(folder))
    killed = consortium.pid(name, process)
    os.kill(killed, signal.SIGKILL)
    until(lambda: consortium.pid(name, process) not in (killed, 0), "it is back", PATIENCE_S)
    goes_on(folder)
    assert len(records(folder)) > before
    end(consortium, folder)


@pytest.mark.parametrize("name", [COORDINATOR, "oak"])
def test_a_machine_that_loses_its_power_goes_on_where_it_was(consortium: Trees, name: str) -> None:
    folder = begin(consortium, f"power-of-{name}")
    before = records(folder)
    consortium.kill(name)
    consortium.up(name)
    goes_on(folder)
    assert records(folder)[: len(before)] == before
    end(consortium, folder)


def test_a_node_that_is_cut_off_for_a_minute_is_missed_and_comes_back(consortium: Trees) -> None:
    relay = Relay(consortium.home.config.port)
    consortium.kill("oak", signal.SIGTERM)
    point_at(consortium.nodes["oak"], relay.port)
    consortium.up("oak")
    folder = begin(consortium, "partition")
    relay.cut()
    time.sleep(PARTITION_S)
    during = len(records(folder))
    relay.mend()
    goes_on(folder)
    assert any("oak" not in one.participants for one in records(folder)[:during])
    end(consortium, folder)
    consortium.kill("oak", signal.SIGTERM)
    point_at(consortium.nodes["oak"], consortium.home.config.port)
    consortium.up("oak")
    relay.close()


def test_a_node_whose_disk_is_full_releases_nothing_and_goes_on_when_there_is_room(
    consortium: Trees,
) -> None:
    folder = begin(consortium, "full-disk")
    processes = [consortium.pid("oak", one) for one in ("fleet", "trainer")]
    for pid in processes:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    until(
        lambda: (
            "oak" not in records(folder)[-1].participants and "oak" in records(folder)[-1].rejected
        ),
        "oak refuses",
        PATIENCE_S,
    )
    kept = rounds_with(folder, "oak")
    check_accounts(folder, consortium.nodes)
    assert rounds_with(folder, "oak") == kept
    resource.prlimit(processes[0], resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    os.kill(consortium.pid("oak", "trainer"), signal.SIGKILL)
    goes_on(folder)
    end(consortium, folder)


def test_a_node_whose_clock_is_a_day_off_takes_part(consortium: Trees) -> None:
    consortium.kill("oak", signal.SIGTERM)
    command = ("-m", "tests.system.deploy.mortal", "skewed", str(consortium.path("oak")))
    consortium.start("oak", *command)
    folder = begin(consortium, "skewed")
    end(consortium, folder)
    (connected,) = consortium.journal("oak", "fleet", "connected")[-1:]
    assert -86_500 < float(connected["clock_offset_s"]) < -86_300
    consortium.kill("oak", signal.SIGTERM)
    consortium.up("oak")
