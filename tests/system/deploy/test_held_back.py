"""An approved node that announces answers and holds them back: the run goes on, also without it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.announcing import announced
from tests.system.deploy.processes import Consortium, consortium, ended
from tests.system.deploy.trees import new_run, records, rounds_with
from tests.waiting import until

from cloister_client.fleet.link import FleetLink
from cloister_client.fleet.messages import LostError, ShutOutError
from cloister_server.run_folder import Phase, RunFolder, Wanted

pytestmark = pytest.mark.deploy

PATIENCE_S = 120.0
DEADLINE_S, PULL_S = 15.0, 0.05


@contextmanager
def holding_back(running: Consortium, folder: Path) -> Iterator[None]:
    """Oak, as long as it is let in: there with every answer, and with none of its parts."""
    home = running.join("oak")
    coordinator = home.coordinator()
    assert coordinator is not None
    authority, key = coordinator.authority.encode(), home.transport_key()
    link = FleetLink(coordinator.address, authority, key, folder / "oak.id", max_bytes=2**26)
    over = threading.Event()

    def hold_back() -> None:
        while not over.is_set():
            try:
                envelope = link.pull()
                if envelope is not None:
                    announced(link, envelope)
            except LostError:
                continue
            except ShutOutError:
                return
            over.wait(PULL_S)

    def connects() -> bool:
        try:
            link.connect()
        except (ShutOutError, httpx.HTTPStatusError):  # Flower hears of a node after the guard
            return False
        return True

    until(connects, "the link knows oak", PATIENCE_S)
    threads = [
        threading.Thread(target=hold_back, daemon=True),
        threading.Thread(target=link.beat, args=(over.wait,), daemon=True),
    ]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        over.set()
        link.close()


def test_who_holds_back_keeps_nobody_out_of_a_round_and_is_gone_once_it_is_revoked(
    tmp_path: Path,
) -> None:
    with consortium(tmp_path, ("elm",)) as running:
        folder = running.order(new_run("autumn", 800, deadline_s=DEADLINE_S))
        until(lambda: rounds_with(folder, "elm") > 0, "elm takes part", PATIENCE_S)
        with holding_back(running, tmp_path):
            until(lambda: slow(folder) >= 2, "oak is waited for", PATIENCE_S)
            running.home.directory().revoke("oak")
            enough = rounds_with(folder, "elm") + 20
            until(lambda: rounds_with(folder, "elm") >= enough, "elm goes on", PATIENCE_S)
        folder.want(Wanted.STOPPED)
        assert ended(folder) is Phase.STOPPED, folder.status.reason
        assert all(one.participants == ("elm",) for one in records(folder))
        assert slow(folder) <= 4


def slow(folder: RunFolder) -> int:
    """In how many rounds somebody was waited for until the deadline."""
    return sum(one.seconds > 0.8 * DEADLINE_S for one in records(folder))
