import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.fleet.hanging import HANG, HangingTrainer
from tests.client.nodes import refusal_of
from tests.system.consortium import make_home, make_run

from cloister_client.fleet.trainer import TrainerDied, TrainerHung, TrainerProcess
from cloister_client.fleet.training_process import NICE
from cloister_client.home import NodeHome
from cloister_server.checkpoint import read_checkpoint
from cloister_shared.journal import Journal, read
from cloister_shared.messages import Contribution, TrainRequest, join, pack, unpack

PATIENCE_S = 300.0
GARBAGE = ("train", (b"garbage", b""), PATIENCE_S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's home beside a run."""
    consortium = tmp_path_factory.mktemp("consortium")
    make_home(consortium / "oak")
    make_run(consortium)
    return consortium / "oak"


@pytest.fixture(scope="module")
def trainer(folder: Path) -> Iterator[TrainerProcess]:
    running = TrainerProcess(folder, Journal(folder / "log" / "fleet.jsonl"))
    yield running
    running.close()


def request(folder: Path) -> bytes:
    state = read_checkpoint(folder.parent / "first.checkpoint")
    return pack(TrainRequest(plan=state.plan, round=1), join(state.weights))


def test_a_round_is_trained_in_another_process_at_low_priority(
    folder: Path, trainer: TrainerProcess
) -> None:
    answer = trainer.ask("train", (request(folder), b""), PATIENCE_S)
    contribution, arrays = unpack(answer, Contribution)
    assert contribution.round == 1
    assert arrays
    assert trainer.pid not in (None, os.getpid())
    assert os.getpriority(os.PRIO_PROCESS, trainer.pid or 0) >= NICE


def test_asked_again_it_answers_the_same_bytes_after_it_was_killed(
    folder: Path, trainer: TrainerProcess
) -> None:
    before = trainer.ask("train", (request(folder), b""), PATIENCE_S)
    first = trainer.pid or 0
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert trainer.ask("train", (request(folder), b""), PATIENCE_S) == before
    assert trainer.pid != first


@pytest.mark.deploy
def test_one_that_dies_over_a_request_says_so_and_the_next_is_there(
    folder: Path, trainer: TrainerProcess
) -> None:
    assert refusal_of(trainer.ask(*GARBAGE)) == "message"
    with pytest.raises(TrainerDied) as caught:
        trainer.ask("no such action", (b"",), PATIENCE_S)
    assert caught.value.exit_code == 1
    assert refusal_of(trainer.ask(*GARBAGE)) == "message"
    failed = [one for one in read(folder / "log" / "trainer.jsonl", 9) if one["event"] == "failed"]
    assert [(one["error"], one["exit_code"]) for one in failed] == [("ValueError", 1)]
    ended = read(folder / "log" / "fleet.jsonl", 9)
    assert 1 in [one.get("exit_code") for one in ended]


def test_large_frames_pass_in_both_directions(trainer: TrainerProcess) -> None:
    frames = bytes(40_000_000), bytes(1_000)
    assert refusal_of(trainer.ask("train", frames, PATIENCE_S)) == "message"


def test_what_the_node_refuses_is_in_its_journal(folder: Path, trainer: TrainerProcess) -> None:
    trainer.ask(*GARBAGE)
    last = read(folder / "log" / "trainer.jsonl", 1)[0]
    assert (last["event"], last["action"], last["code"]) == ("refused", "train", "message")


@pytest.mark.parametrize("size", [1, 40_000_000], ids=["asked", "before all was said"])
def test_one_that_hangs_is_killed_and_the_next_one_answers(tmp_path: Path, size: int) -> None:
    (tmp_path / HANG).touch()
    trainer = HangingTrainer(tmp_path, Journal(tmp_path / "fleet.jsonl"))
    trainer.await_warm()
    with pytest.raises(TrainerHung) as caught:
        trainer.ask("train", (bytes(size),), 0.1)
    assert caught.value.exit_code == -signal.SIGKILL
    (tmp_path / HANG).unlink()
    trainer.close()
    assert trainer.ask("train", (b"question",), PATIENCE_S) == b"question"
    trainer.close()
    ended = [one for one in read(tmp_path / "fleet.jsonl", 9) if one["event"] == "child ended"]
    assert [one["exit_code"] for one in ended] == [-signal.SIGKILL]


@pytest.mark.deploy
def test_a_home_that_cannot_be_opened_is_told_by_its_exit_code(tmp_path: Path) -> None:
    home = make_home(tmp_path / "elm")
    (home.path / "ledger.sqlite").unlink()
    trainer = TrainerProcess(home.path, Journal(tmp_path / "fleet.jsonl"))
    trainer.await_warm()  # it never will be
    with pytest.raises(TrainerDied) as caught:
        trainer.ask(*GARBAGE)
    trainer.close()
    assert caught.value.exit_code == 7


def test_closing_ends_the_process(folder: Path) -> None:
    trainer = TrainerProcess(folder, Journal(folder / "log" / "other.jsonl"))
    trainer.start()
    pid = trainer.pid or 0
    trainer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert NodeHome.open(folder)
