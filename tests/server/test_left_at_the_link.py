"""What was said in a run of Flower's is gone from the link's database when the run is over."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.hosted import Keys, hosted_with

from cloister_client.fleet.link import FleetLink
from cloister_server.grid import QuickGrid
from cloister_server.home import CoordinatorHome
from cloister_server.runner import Runner
from cloister_server.superlink import Control
from cloister_shared.errors import RunError
from cloister_shared.journal import Journal

OAK = Keys()
TABLES = ("objects", "object_children", "run_objects", "message_ins", "message_res")
"""Flower's, of messages and their parts."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    with hosted_with(tmp_path_factory.mktemp("coordinator"), oak=OAK) as home:
        yield home


@pytest.fixture
def node(home: CoordinatorHome) -> Iterator[int]:
    """A node that is there and looks for nothing."""
    address, authority = f"127.0.0.1:{home.config.port}", home.authority_pem().encode()
    memory = home.path.parent / "oak"
    with closing(FleetLink(address, authority, OAK.transport, memory, max_bytes=2**20)) as link:
        link.connect()
        yield link.node_id


def left(home: CoordinatorHome) -> dict[str, int]:
    """Rows in each of these tables."""
    with closing(sqlite3.connect(f"file:{home.superlink}?mode=ro", uri=True)) as database:
        counts = {one: f"select count(*) from {one}" for one in TABLES}  # noqa: S608
        return {one: database.execute(query).fetchone()[0] for one, query in counts.items()}


def test_a_run_leaves_nothing_of_what_a_silent_node_was_asked(
    home: CoordinatorHome, node: int, tmp_path: Path
) -> None:
    runner = Runner(home, Journal(tmp_path / "runner.jsonl"))
    with runner.exchange("autumn") as exchange:
        assert list(exchange.ask("train", {node: b"question"}, 1, 0.5)) == []
    assert left(home) == dict.fromkeys(TABLES, 0)


def test_a_run_that_failed_in_the_middle_leaves_nothing(
    home: CoordinatorHome, node: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(home, Journal(tmp_path / "runner.jsonl"))
    before: list[int] = []

    def fail(grid: QuickGrid, within_s: float) -> None:
        before.append(left(home)["objects"])
        raise RunError("in the middle")

    monkeypatch.setattr(QuickGrid, "wait", fail)
    with pytest.raises(RunError), runner.exchange("winter") as exchange:
        list(exchange.ask("train", {node: b"question"}, 1, 10.0))
    assert before == [3]
    assert left(home) == dict.fromkeys(TABLES, 0)


def test_a_run_that_nobody_finished_is_stopped_and_leaves_nothing(
    home: CoordinatorHome, node: int
) -> None:
    with closing(Control(home)) as control:
        run = control.start_run("spring")
        control.clear(run)
        assert control.stop_runs() == 0
    assert left(home) == dict.fromkeys(TABLES, 0)
