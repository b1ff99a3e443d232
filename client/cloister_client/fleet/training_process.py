"""The trainer's own side: a warm node behind a pipe, at low priority, with one thread.

``python -m cloister_client.fleet.training_process HOME DESCRIPTOR PARENT``; ends when its parent
does. What nobody expected ends it too: it is started again with nothing of the old state, and the
ledger keeps the charge.
"""

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from cloister_client.app import node_from_home
from cloister_client.failures import log_failure, place_of
from cloister_client.fleet.trainer import READY
from cloister_client.flower import Participant
from cloister_client.home import LOGS, NodeHome
from cloister_client.swapping import Chores, Steps
from cloister_client.training.process import tune_process
from cloister_shared.errors import CloisterError, MessageError
from cloister_shared.journal import Event, Journal
from cloister_shared.messages import Refusal, unpack
from cloister_shared.supervision import end_with

NICE = 10
"""Added to the priority's number: whoever waits for an answer of the service comes first."""


def main(
    folder: Path,
    descriptor: int,
    parent: int,
    node_of: Callable[[NodeHome, Callable[[Steps], None]], Participant] = node_from_home,
) -> None:
    """Answer over the pipe, as the home's node, until the parent hangs up."""
    end_with(parent)
    os.nice(NICE)
    tune_process()
    journal = Journal(folder / LOGS / "trainer.jsonl")
    try:
        chores = Chores()
        node = node_of(NodeHome.open(folder), chores.put)
        with Connection(descriptor) as pipe:
            journal.write(Event.READY, process="trainer", pid=os.getpid())
            pipe.send_bytes(READY)
            serve(pipe, node, journal, chores)
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # told without its text: it may hold a learner's record
        code = error.exit_code if isinstance(error, CloisterError) else 1
        log_failure(error)
        journal.write(
            Event.FAILED,
            process="trainer",
            error=type(error).__name__,
            where=place_of(error),
            exit_code=code,
        )
        sys.exit(code)


def serve(pipe: Connection, node: Participant, journal: Journal, chores: Chores) -> None:
    """Answer one request after another; ``EOFError`` when the parent hangs up.

    In between, models that were released are prepared for service.
    What the node itself refuses, for its policy or budget, is in the journal.
    """
    answers = {
        "train": node.answer_train,
        "evaluate": node.answer_evaluate,
        "release": node.answer_release,
    }
    while True:
        while not pipe.poll() and chores.do_one():
            pass
        action, count = pipe.recv_bytes().decode().split()
        frames = [pipe.recv_bytes() for _ in range(int(count))]
        answer = answers[action](*frames)
        _note_refusal(journal, action, answer)
        pipe.send_bytes(answer)


def _note_refusal(journal: Journal, action: str, answer: bytes) -> None:
    try:
        refusal, _ = unpack(answer, Refusal)
    except MessageError:  # it is another kind of answer
        return
    journal.write(Event.REFUSED, action=action, code=refusal.code, round=refusal.round)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
