"""The coordinator's memory in a round of many nodes, each with its own keys, over TLS.

The nodes are threads of this process, which train nothing: each takes the request, by a node's own
loop, and sends a contribution of the right size. The coordinator is `cloister coordinator up`.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)

from cloister_client.fleet.link import FleetLink
from cloister_client.fleet.loop import Checks, FleetLoop
from cloister_client.fleet.messages import ShutOutError
from cloister_client.fleet.process import MAX_ANSWER_BYTES
from cloister_client.transport_key import public_pem
from cloister_server.directory import Member
from cloister_server.home import CoordinatorHome
from cloister_server.up_commands import tree_of
from cloister_shared import __version__
from cloister_shared.compression import Arrays, Compression, encode
from cloister_shared.curriculum import Curriculum
from cloister_shared.journal import Event, Journal
from cloister_shared.kit import Standing
from cloister_shared.messages import Contribution, TrainRequest, join, pack_signed, unpack
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.signing import SigningKey
from cloister_shared.supervision import is_up
from cloister_simulations.benchmarks.deploy.consortium import (
    LOOPBACK,
    SIZE,
    Consortium,
    command,
    first_state,
    make_coordinator,
    make_plan,
)
from cloister_simulations.benchmarks.skills import curriculum_of
from cloister_simulations.progress import Reporter

SPEC = DktSpec(skills=350, hidden=300)
"""5.2 MB in float32."""
_AT_ONCE = 8
_LOOK_S, _SHUT_OUT_S, _ROUND_S = 0.5, 1.0, 3600.0


def coordinator_peak(nodes: int, compression: Compression, reporter: Reporter) -> dict[str, float]:
    """GiB that each of the coordinator's processes ever held, by name, in a round of ``nodes``."""
    curriculum = curriculum_of(SPEC.skills)
    reporter.begin(f"a round of {nodes} nodes", nodes)
    with tempfile.TemporaryDirectory() as folder:
        home = make_coordinator(Path(folder) / "coordinator", curriculum)
        crowd = [_SimulatedNode.admitted(home, Path(folder), number) for number in range(nodes)]
        command("coordinator", "up", str(home.path), "--background")
        try:
            with _online(crowd):
                _one_round(home, curriculum, crowd, compression, reporter)
            return _peaks(home)
        finally:
            command("coordinator", "down", str(home.path))


@dataclass
class _SimulatedNode:
    """A member of the consortium with a link of its own."""

    name: str
    key: SigningKey
    link: FleetLink
    memory: Path

    @classmethod
    def admitted(cls, home: CoordinatorHome, folder: Path, number: int) -> "_SimulatedNode":
        """Node ``number``, as if it had joined and been approved."""
        name, key = f"school-{number:03d}", SigningKey.generate()
        transport: EllipticCurvePrivateKey = generate_private_key(SECP384R1())
        member = Member(
            name=name,
            transport_key=public_pem(transport),
            signing_key=key.public,
            declared_size=SIZE,
            release=__version__,
            standing=Standing.PENDING,
            since=datetime.now(UTC),
        )
        home.directory().add(member)
        home.directory().approve(name)
        address = f"{LOOPBACK}:{home.config.port}"
        authority = home.authority_pem().encode()
        memory = folder / f"{name}.id"
        link = FleetLink(address, authority, transport, memory, max_bytes=MAX_ANSWER_BYTES)
        return cls(name, key, link, memory)

    def connect(self, over: threading.Event) -> None:
        """Be there, as soon as Flower knows of this node."""
        while not (self.link.node_id or over.is_set()):
            try:
                self.link.connect()
            except (ShutOutError, httpx.HTTPError):
                over.wait(_SHUT_OUT_S)

    def answer(self, coordinator: str, arrays: Arrays, over: threading.Event) -> bool:
        """Contribute ``arrays`` to the round, through a node's own loop; whether that was done."""
        journal = _Answers(self.memory)
        checks = Checks(coordinator, self.name, self.key)
        loop = FleetLoop(self.link, _Untrained(self.name, self.key, arrays), checks, journal)
        running = threading.Thread(target=loop.run)
        running.start()
        while not (journal.answered.wait(_LOOK_S) or over.is_set()):
            pass
        loop.stop()
        running.join()
        return journal.answered.is_set()


class _Answers(Journal):
    """A journal that keeps nothing but whether the node has answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answered = threading.Event()

    def write(self, event: Event, **fields: str | int | float) -> None:
        if event is Event.ANSWERED:
            self.answered.set()


@dataclass(frozen=True)
class _Untrained:
    """Stands where a node has its trainer."""

    name: str
    key: SigningKey
    arrays: Arrays

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        """The same contribution to every round."""
        request, _ = unpack(frames[0], TrainRequest)
        header = Contribution(plan=request.plan.digest, round=request.round, node=self.name)
        return pack_signed(header, join({"dkt": self.arrays}), self.key)


@contextmanager
def _online(crowd: Sequence[_SimulatedNode]) -> Iterator[None]:
    """All nodes connected, each with its heartbeat."""
    over = threading.Event()
    beats = [threading.Thread(target=node.link.beat, args=(over.wait,)) for node in crowd]
    for beat in beats:
        beat.start()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as workers:
            list(workers.map(lambda node: node.connect(over), crowd))
        yield
    finally:
        over.set()
        for node, beat in zip(crowd, beats, strict=True):
            beat.join()
            node.link.close()


def _one_round(
    home: CoordinatorHome,
    curriculum: Curriculum,
    crowd: Sequence[_SimulatedNode],
    compression: Compression,
    reporter: Reporter,
) -> None:
    names = tuple(node.name for node in crowd)
    # After its one round the run ends: nothing private is released without an audit.
    plan = make_plan("memory", curriculum, SPEC, 1, names, compression=compression)
    arrays = encode(_noise_like(SPEC), SPEC, compression)
    over = threading.Event()
    coordinator = home.signing_key().public
    answered: list[str] = []

    def answer(node: _SimulatedNode) -> None:
        if node.answer(coordinator, arrays, over):
            answered.append(node.name)
            reporter.reach(len(answered))

    with ThreadPoolExecutor(_AT_ONCE) as workers:
        for node in crowd:
            workers.submit(partial(answer, node))
        try:
            Consortium(home).rounds(first_state(plan, curriculum), 1, _ROUND_S)
        finally:
            over.set()


def _noise_like(spec: DktSpec) -> dict[str, np.ndarray]:
    """A delta as noise makes it, somewhat shorter than the plan allows."""
    random = np.random.default_rng(1)
    return {
        name: random.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in spec.shapes().items()
    }


def _peaks(home: CoordinatorHome) -> dict[str, float]:
    """What Linux remembers of each process of the coordinator."""
    status = is_up(home.running)
    processes = {name: one.pid for name, one in tree_of(home.path).processes().items()}
    if status is not None:
        processes["supervisor"] = status.pid
    return {name: _high_water_gib(pid) for name, pid in processes.items() if pid is not None}


def _high_water_gib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    (line,) = (one for one in lines if one.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20
