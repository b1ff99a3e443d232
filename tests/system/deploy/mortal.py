"""Processes of a consortium that kill themselves at named points, one after another.

``python -m tests.system.deploy.mortal fleet|runner|skewed FOLDER``. The points that are left stand
in the folder's file ``deaths``, a word a line: who comes to the first takes it out and dies.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.system.mortal import Fuse, mortal

from cloister_client.app import node_from_home
from cloister_client.fleet import training_process
from cloister_client.fleet.clock import system_clock
from cloister_client.fleet.process import take_part
from cloister_client.fleet.trainer import TrainerProcess
from cloister_client.home import NodeHome
from cloister_client.node import Node
from cloister_client.swapping import Steps
from cloister_server.exchange import Reply
from cloister_server.flower import GridExchange
from cloister_server.grid import never
from cloister_server.home import CoordinatorHome
from cloister_server.runner import Runner
from cloister_shared.journal import Journal
from cloister_shared.messages import Question

DEATHS = "deaths"
DAY = timedelta(days=1)


@dataclass
class Deaths(Fuse):
    """Kills its process at the first point of the file ``path``."""

    path: Path = field(default_factory=Path)

    def reach(self, point: str) -> None:
        left = points_left(self.path)
        if left and left[0] == point:
            put(self.path, left[1:])
            os.kill(os.getpid(), signal.SIGKILL)


def put(path: Path, points: Sequence[str]) -> None:
    """Have processes die at these points, in this order."""
    partial = path.with_name("deaths.partial")
    partial.write_text("\n".join(points))
    partial.replace(path)


def points_left(path: Path) -> list[str]:
    """Where nobody has died yet."""
    return path.read_text().splitlines() if path.exists() else []


class MortalTrainer(TrainerProcess):
    """A trainer with a node that dies; and its parent dies where it has the answer, unsent."""

    module = "tests.system.deploy.mortal"

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        deaths = Deaths(path=self._folder / DEATHS)
        deaths.reach("pulled")
        answer = super().ask(action, frames, within_s)
        deaths.reach("unsent")
        return answer


def mortal_node(home: NodeHome, do: Callable[[Steps], None]) -> Node:
    deaths = Deaths(path=home.path / DEATHS)
    deaths.watch()
    return mortal(node_from_home(home, do), deaths)


class MortalRunner(Runner):
    """Dies at points of an exchange, and of what it writes after that."""

    def __init__(self, home: CoordinatorHome, journal: Journal) -> None:
        super().__init__(home, journal)
        self.deaths = Deaths(path=home.path / DEATHS)
        self.deaths.watch()

    @contextmanager
    def exchange(self, name: str, gives_way: Callable[[], bool] = never) -> Iterator[Any]:
        with super().exchange(name, gives_way) as exchange:
            yield MortalExchange(exchange, self.deaths)


@dataclass(frozen=True)
class MortalExchange:
    """An exchange; everything but training is as it was."""

    inner: GridExchange
    deaths: Deaths

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def ask(self, question: Question, *about: Any) -> Iterator[Reply]:
        replies = partial(self.inner.ask, question, *about)
        return self._train(replies) if question == "train" else replies()

    def _train(self, ask: Callable[[], Iterator[Reply]]) -> Iterator[Reply]:
        self.deaths.reach("asking")
        for reply in ask():
            self.deaths.reach("asked")
            yield reply
        self.deaths.reach("received")


def main(role: str, folder: Path) -> None:
    if role == "runner":
        home = CoordinatorHome.open(folder)
        MortalRunner(home, Journal(home.logs / "runner.jsonl")).run()
    elif role == "skewed":
        take_part(NodeHome.open(folder), clock=lambda: system_clock() + DAY)
    else:
        take_part(NodeHome.open(folder), trainer_of=MortalTrainer)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if len(sys.argv) == 4:  # a trainer: home, descriptor, parent
        arguments = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
        training_process.main(*arguments, node_of=mortal_node)
    else:
        main(sys.argv[1], Path(sys.argv[2]))
