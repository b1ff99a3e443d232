"""A consortium of real processes on loopback, over TLS, for tests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.consortium import BUDGET, CURRICULUM
from tests.waiting import free_port, until

from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_client.joining import join
from cloister_server.checkpoint import RunState
from cloister_server.config import CoordinatorConfig
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.privacy import Policy

ENTRY = Path(__file__).with_name("entry.py")
LEARNERS, SIZE = 20, 50
READY_S, RUN_S = 30.0, 120.0


class Processes:
    """Processes by name, each with a log; all of them end with this object."""

    def __init__(self, folder: Path) -> None:
        self._logs = folder
        self._logs.mkdir(exist_ok=True)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        with (self._logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                (sys.executable, *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self.running[name]

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(READY_S)

    def close(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self.running.clear()

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text("utf-8", "replace")


class Consortium(Processes):
    """A coordinator's home, nodes' homes, and their processes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "log")
        self.folder = folder
        config = CoordinatorConfig(
            consortium="tests",
            address="127.0.0.1",
            listen="127.0.0.1",
            port=free_port(),
            control_port=free_port(),
            console_port=free_port(),
        )
        self.home = CoordinatorHome.create(folder / "coordinator", config, CURRICULUM)
        self.nodes: dict[str, NodeHome] = {}

    def start_link(self) -> None:
        self.start("link", str(ENTRY), "link", str(self.home.path))
        until(self._listens, "the link listens")

    def start_runner(self) -> None:
        self.start("runner", str(ENTRY), "runner", str(self.home.path))

    def start_node(self, name: str) -> None:
        self.start(name, str(ENTRY), "fleet", str(self.nodes[name].path))

    def join(self, name: str) -> NodeHome:
        """As a school does, with the operator's approval."""
        kit = Invitations(self.home).issue(name)
        config = NodeConfig(
            name=name, declared_size=SIZE, evaluation_share=0.0, policy=Policy(budget=BUDGET)
        )
        path = self.folder / name
        NodeHome.create(path, config, CURRICULUM)
        join(kit, kit.kit.fingerprint, path, None)
        member = self.home.directory().get(name)
        assert member is not None
        self.home.directory().approve(name)
        self.nodes[name] = NodeHome.open(path)
        with self.nodes[name].store() as store:
            store.import_interactions(
                Interaction(f"learner {one}", item.id, one % 2 == 0, when, str(when))
                for one in range(LEARNERS)
                for when, item in enumerate(CURRICULUM.items * 3)
            )
        return self.nodes[name]

    def order(self, state: RunState) -> RunFolder:
        """A run that is wanted."""
        folder = RunFolder.make(self.home.runs, state)
        folder.want(Wanted.RUNNING)
        return folder

    def _listens(self) -> bool:
        assert self.running["link"].poll() is None, self.log("link")
        ports = (self.home.config.port, self.home.config.control_port)
        return all(socket.socket().connect_ex(("127.0.0.1", port)) == 0 for port in ports)


@contextmanager
def consortium(folder: Path, names: tuple[str, ...]) -> Iterator[Consortium]:
    """Link, runner and nodes, up."""
    one = Consortium(folder)
    try:
        one.start_link()
        for name in names:
            one.join(name)
        one.start_runner()
        for name in names:
            one.start_node(name)
        yield one
    finally:
        one.close()


def ended(folder: RunFolder, seconds: float = RUN_S) -> Phase:
    """How the run ended."""
    over = (Phase.FINISHED, Phase.FAILED, Phase.STOPPED)
    until(lambda: folder.status.phase in over, f"run {folder.name} ends", seconds)
    return folder.status.phase
