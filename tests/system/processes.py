"""Two nodes and a coordinator, each a process of its own, to be killed and started again.

They talk over local sockets. Whatever a node sends is kept in a file before.
"""

import hashlib
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.system.consortium import CURRICULUM, NAMES, make_home
from tests.system.mortal import Death, Fuse, mortal
from tests.system.simulated import await_that, start

from cloister_client.app import node_from_home
from cloister_client.home import NodeHome
from cloister_server.checkpoint import RunState, read_checkpoint, save_checkpoint
from cloister_server.exchange import Reply
from cloister_server.rounds import Coordinator
from cloister_shared.compression import Compression
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    Contribution,
    EvaluateRequest,
    MetricReport,
    Question,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    unpack,
)
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy import Mechanism

COORDINATOR = "coordinator"
SENDERS = dict(enumerate(NAMES, start=1))
MECHANISM = Mechanism(noise_multiplier=50.0, clip_norm=0.1, sampling_rate=0.5)
METRICS = MetricPlan(every_rounds=2, noise_multiplier=500.0, bins=5)
KILLED = -signal.SIGKILL
PARTIAL = "partial "
Replies = dict[tuple[str, int, str], dict[str, Path]]
"""Files by kind, round and node, then by SHA-256."""


def begin(
    directory: Path,
    rounds: int,
    mechanism: Mechanism = MECHANISM,
    metrics: MetricPlan | None = METRICS,
    quorum: int = len(NAMES),
    *,
    compression: Compression = "none",
) -> None:
    """Two homes with learners of both roles, and a run's first checkpoint."""
    for name in NAMES:
        make_home(directory / name, learners=60, evaluation_share=0.25)
    spec = DktSpec(skills=2, hidden=4)
    plan = Plan(
        run="first",
        curriculum=CURRICULUM.digest,
        models=(ModelPlan(spec=spec, rounds=rounds, mechanism=mechanism),),
        declared_sizes=dict.fromkeys(NAMES, 50),
        quorum=quorum,
        metrics=metrics,
        deadline_s=60,
        compression=compression,
    )
    weights = {"dkt": spec.initial_weights(CURRICULUM, 1)}
    save_checkpoint(checkpoint(directory), RunState(plan, weights))
    for folder in ("ports", "replies"):
        (directory / folder).mkdir()


def checkpoint(directory: Path) -> Path:
    """The run's."""
    return directory / "first.checkpoint"


def replies(directory: Path) -> Replies:
    """All different replies that were ever sent."""
    sent: Replies = {}
    for path in (directory / "replies").iterdir():
        if not path.name.startswith(PARTIAL):
            kind, number, name, digest = path.name.split(".")
            sent.setdefault((kind, int(number), name), {})[digest] = path
    return sent


@dataclass(frozen=True)
class Consortium:
    """The processes that run over ``directory``."""

    directory: Path
    _running: dict[str, BaseProcess] = field(default_factory=dict)

    def start(self, name: str, death: Death | None = None) -> None:
        """Start a node, or the coordinator."""
        arguments = () if name == COORDINATOR else (name,)
        work = coordinate if name == COORDINATOR else serve
        self._running[name] = start(work, self.directory, death, *arguments)

    def ended(self, name: str) -> int | None:
        """Its exit code, once it has ended of itself or of its death."""
        self._running[name].join(60)
        return self._running[name].exitcode

    def kill(self, *names: str) -> bool:
        """End them, wherever they are; whether all were running."""
        for name in names:
            self._running[name].kill()
        return {self.ended(name) for name in names} <= {KILLED}

    def is_over(self) -> bool:
        """Whether the run is; whoever was killed, or had to give up, is started again."""
        for name in (*NAMES, COORDINATOR):
            process = self._running.get(name)
            code = KILLED if process is None else process.exitcode
            if name == COORDINATOR and code == 0:
                return True
            if code in (KILLED, RunError.exit_code):
                self.start(name)
            elif code is not None:
                raise AssertionError(f"{name} ended with exit code {code}")
        return False

    def finish(self) -> None:
        """Wait until the run is over."""
        await_that(self.is_over, "the end of the run")

    def close(self) -> None:
        """End all processes."""
        self.kill(*self._running)


def serve(directory: Path, death: Death | None, name: str) -> None:
    """Be the node ``name``, until killed."""
    fuse = Fuse(death)
    fuse.watch()
    node = mortal(node_from_home(NodeHome.open(directory / name)), fuse)
    answers = {
        "train": node.answer_train,
        "evaluate": node.answer_evaluate,
        "release": node.answer_release,
    }
    with Listener(("127.0.0.1", 0)) as listener:
        _put(directory / "ports" / name, str(listener.address[1]).encode())
        while True:
            with listener.accept() as connection:
                request = _received(connection)
                if request is None:
                    continue
                action, *message = request
                fuse.begin(action, _round(message[0]))
                reply = answers[action](*message)
                _keep(directory / "replies", name, reply)
                with suppress(OSError):  # the coordinator may be gone
                    connection.send_bytes(reply)
                fuse.reach("answered")


def coordinate(directory: Path, death: Death | None) -> None:
    """Be the coordinator for what is left of the run; exit code 6 where it has to give up."""
    fuse = Fuse(death)
    fuse.watch()
    state = read_checkpoint(checkpoint(directory))
    try:
        Coordinator(state.plan, state.weights, directory).run(Wire(directory, fuse))
    except RunError as error:
        raise SystemExit(error.exit_code) from error


@dataclass(frozen=True)
class Wire:
    """The coordinator's ``Exchange`` with the nodes that listen."""

    directory: Path
    fuse: Fuse

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        """All nodes: one that was killed is started again."""
        del count, deadline_s
        await_that(lambda: all(map(self._is_there, SENDERS)), "all nodes")
        return list(SENDERS)

    def ask(
        self,
        question: Question,
        bodies: Mapping[int, bytes],
        round_number: int,
        deadline_s: float,
        receipts: bytes = b"",
    ) -> list[Reply]:
        self.fuse.begin(question, round_number)
        self.fuse.reach("asking")
        beside = () if question == "release" else (receipts,)
        asked = {
            sender: self._ask(sender, question, body, *beside) for sender, body in bodies.items()
        }
        self.fuse.reach("asked")
        heard = [_heard(sender, line, deadline_s) for sender, line in asked.items()]
        self.fuse.reach("received")
        return heard

    def _ask(self, sender: int, action: str, *message: bytes) -> Connection | None:
        with suppress(OSError):
            connection = Client(("127.0.0.1", self._port(sender)))
            connection.send((action, *message))
            return connection
        return None

    def _is_there(self, sender: int) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port(sender))):
            return True
        return False

    def _port(self, sender: int) -> int:
        return int((self.directory / "ports" / SENDERS[sender]).read_text())


def _heard(sender: int, connection: Connection | None, deadline_s: float) -> Reply:
    """What came back before the node's end."""
    if connection is None:
        return Reply(sender, None, "not there")
    with connection, suppress(EOFError, OSError):
        if connection.poll(deadline_s):
            return Reply(sender, connection.recv_bytes())
    return Reply(sender, None, "hung up")


def _round(body: bytes) -> int:
    """The round that a message is about."""
    return unpack(body, TrainRequest, EvaluateRequest, Release)[0].round


def _received(connection: Connection) -> tuple[Any, ...] | None:
    """What is asked; nothing where somebody only looks whether the node is there."""
    with suppress(EOFError, OSError):
        return tuple(connection.recv())
    return None


def _keep(folder: Path, name: str, reply: bytes) -> None:
    header, _ = unpack(reply, Contribution, MetricReport, Refusal, Receipt)
    digest = hashlib.sha256(reply).hexdigest()
    _put(folder / f"{header.type}.{header.round}.{name}.{digest}", reply)


def _put(path: Path, content: bytes) -> None:
    """A whole file or none."""
    partial = path.with_name(PARTIAL + path.name)
    partial.write_bytes(content)
    partial.replace(path)
