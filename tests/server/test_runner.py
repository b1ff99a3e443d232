"""The runner over a link that is up: it does what is wanted, says what came of it, and resumes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.hosted import Keys, approve, hosted, make_coordinator
from tests.waiting import until

import cloister_server.runner
from cloister_client.fleet.link import FleetLink
from cloister_client.fleet.loop import Checks, FleetLoop
from cloister_server.checkpoint import RunState
from cloister_server.home import CoordinatorHome
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_server.runner import Runner
from cloister_shared.errors import ServiceError
from cloister_shared.journal import Event, Journal, read
from cloister_shared.messages import (
    Contribution,
    Receipt,
    Release,
    TrainRequest,
    pack_signed,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan

from .conftest import CURRICULUM

NAMES = ("north", "south")
KEYS = {name: Keys() for name in NAMES}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    home = make_coordinator(tmp_path_factory.mktemp("coordinator") / "home", CURRICULUM)
    for name, keys in KEYS.items():
        approve(home, name, keys)
    with hosted(home):
        yield home


@dataclass
class Trainer:
    """Answers as an honest node does, with the keys of the node's home."""

    name: str
    answer: Callable[[bytes], bytes]
    asked: list[int] = field(default_factory=list)
    hook: Callable[[int], None] = lambda number: None

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        header, _ = unpack(frames[0], TrainRequest, Release)
        self.asked.append(header.round)
        self.hook(header.round)
        reply, arrays = unpack(self.answer(frames[0]), Contribution, Receipt)
        return pack_signed(reply, arrays, KEYS[self.name].signing)


@contextmanager
def taking_part(home: CoordinatorHome, trainers: dict[str, Trainer]) -> Iterator[None]:
    """Nodes' loops, in threads."""
    loops = []
    for name, trainer in trainers.items():
        link = FleetLink(
            f"127.0.0.1:{home.config.port}",
            home.authority_pem().encode(),
            KEYS[name].transport,
            home.path / f"{name}.id",
            max_bytes=2**20,
        )
        checks = Checks(home.signing_key().public, name, KEYS[name].signing)
        loop = FleetLoop(link, trainer, checks, Journal(home.path / f"{name}.jsonl"))
        loops.append((loop, threading.Thread(target=loop.run, daemon=True)))
    for _, thread in loops:
        thread.start()
    try:
        yield
    finally:
        for loop, _ in loops:
            loop.stop()
        for _, thread in loops:
            thread.join(10)


@pytest.fixture
def trainers(honest_node) -> dict[str, Trainer]:
    return {name: Trainer(name, honest_node(name)) for name in NAMES}


@pytest.fixture
def order(
    home: CoordinatorHome, plan: Plan, weights: dict[str, Weights]
) -> Callable[[str], RunFolder]:
    """A run that is wanted, of models that promise nothing and so need no audit."""

    def order(name: str) -> RunFolder:
        models = tuple(
            one.model_copy(
                update={"mechanism": one.mechanism.model_copy(update={"noise_multiplier": 0.0})}
            )
            for one in plan.models
        )
        changed = {"run": name, "models": models, "deadline_s": 20.0}
        folder = RunFolder.make(home.runs, RunState(plan.model_copy(update=changed), weights))
        folder.want(Wanted.RUNNING)
        return folder

    return order


def runner(home: CoordinatorHome, tmp_path: Path) -> Runner:
    return Runner(home, Journal(tmp_path / "runner.jsonl"))


def test_a_run_that_is_wanted_is_done_to_its_end(home, trainers, order, tmp_path) -> None:
    folder = order("spring")
    with taking_part(home, trainers):
        assert runner(home, tmp_path).look()
    assert (folder.status.phase, folder.wanted) == (Phase.FINISHED, Wanted.STOPPED)
    assert [record.participants for record in folder.state().records] == [NAMES] * 4
    events = [entry["event"] for entry in read(tmp_path / "runner.jsonl", 99)]
    assert events == [Event.RUN_STARTED, *[Event.ROUND] * 4, Event.RUN_ENDED]


def test_a_run_stops_between_rounds_and_goes_on_after_its_last(
    home, trainers, order, tmp_path
) -> None:
    folder = order("summer")
    trainers["north"].hook = lambda number: folder.want(Wanted.STOPPED) if number == 2 else None
    with taking_part(home, trainers):
        one = runner(home, tmp_path)
        assert one.look()
        assert (folder.status.phase, folder.state().round) == (Phase.STOPPED, 2)
        assert not one.look()
        trainers["north"].hook = lambda number: None
        folder.want(Wanted.RUNNING)
        # As after a restart of the coordinator: another runner takes it up.
        assert runner(home, tmp_path).look()
    assert folder.status.phase is Phase.FINISHED
    assert sorted(set(trainers["south"].asked)) == [1, 2, 3, 4]
    assert trainers["south"].asked.count(2) == 1


def test_a_run_without_quorum_fails_with_its_reason_and_can_be_resumed(
    home, trainers, order, tmp_path
) -> None:
    folder = order("autumn")
    # It answers for another node, which its key does not allow.
    trainers["north"].name = "south"
    with taking_part(home, trainers):
        one = runner(home, tmp_path)
        assert one.look()
        status = folder.status
        assert status.phase is Phase.FAILED
        assert "north is not signed with the key of an approved node" in status.reason
        assert not one.look()
        trainers["north"].name = "north"
        folder.want(Wanted.RUNNING)
        assert one.look()
    assert folder.status.phase is Phase.FINISHED


def test_a_run_that_is_wanted_does_not_wait_for_a_node_that_is_silent_about_models(
    home, trainers, order, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloister_server.runner, "GIVES_WAY_S", 0.1)
    with taking_part(home, trainers):
        one = runner(home, tmp_path)
        order("first")
        assert one.look()
        folders: list[RunFolder] = []

        def hold_back(_: int) -> None:
            if not folders:
                folders.append(order("second"))
                until(lambda: folders[0].status.phase is Phase.RUNNING, "the run begins", 60)
                began.set()

        began = threading.Event()
        trainers["north"].hook = hold_back
        assert not one.look(), "the models of the first run are delivered"
        assert one.look()
    assert began.is_set()
    assert folders[0].status.phase is Phase.FINISHED


def test_a_link_that_is_away_is_waited_for(tmp_path: Path, plan, weights) -> None:
    home = make_coordinator(tmp_path / "away")
    folder = RunFolder.make(home.runs, RunState(plan, weights))
    folder.want(Wanted.RUNNING)
    with pytest.raises(ServiceError):
        runner(home, tmp_path).look()
    assert folder.wanted is Wanted.RUNNING
