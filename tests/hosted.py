"""The coordinator's link in a thread of the tests' own process, and nodes' keys."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.waiting import free_port, until

from cloister_server.bell import Bell
from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.directory import Member
from cloister_server.grid import Task, acquire
from cloister_server.home import CoordinatorHome
from cloister_server.join_route import join_app
from cloister_server.link import register_all, servers
from cloister_server.superlink import Control
from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.kit import Standing
from cloister_shared.signing import SigningKey

CURRICULUM = Curriculum(
    name="sums", skills=(Skill(id="adding"),), items=(Item(id="1+1", skills=("adding",)),)
)


@dataclass(frozen=True)
class Keys:
    """A node's two private keys."""

    transport: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )
    signing: SigningKey = field(default_factory=SigningKey.generate)

    @property
    def pem(self) -> bytes:
        public = self.transport.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def make_coordinator(folder: Path, curriculum: Curriculum = CURRICULUM) -> CoordinatorHome:
    config = CoordinatorConfig(
        consortium="tests",
        address="127.0.0.1",
        listen="127.0.0.1",
        port=free_port(),
        control_port=free_port(),
        console_port=free_port(),
        # The tests' strangers all come from one address.
        limits=Limits(connections_per_address=500),
    )
    return CoordinatorHome.create(folder, config, curriculum)


def approve(home: CoordinatorHome, name: str, keys: Keys) -> None:
    """Let a node in, as after a join and the operator's approval."""
    member = Member(
        name=name,
        transport_key=keys.pem.decode(),
        signing_key=keys.signing.public,
        declared_size=50,
        release="0.1.0",
        standing=Standing.PENDING,
        since=datetime.now(UTC),
    )
    home.directory().add(member)
    home.directory().approve(name)


_HOLD_S = 0.2
"""Tests look for what is not there, too."""


@contextmanager
def hosted(home: CoordinatorHome) -> Iterator[list[tuple[str, str]]]:
    """The link, serving; what its guard refuses is put into the list."""
    heard: list[tuple[str, str]] = []
    both = servers(home, join_app(home), lambda *what: heard.append(what), Bell(), _HOLD_S)

    async def serve() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 4
        await asyncio.gather(*(server.serve() for server in both))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        until(lambda: all(server.started for server in both), "the link listens")
        control = Control(home)
        register_all(control, home.directory().approved())
        control.close()
        yield heard
    finally:
        for server in both:
            server.should_exit = server.force_exit = True
        thread.join(20)


@contextmanager
def hosted_with(folder: Path, **nodes: Keys) -> Iterator[CoordinatorHome]:
    """A new coordinator's link, serving, with these nodes approved."""
    home = make_coordinator(folder / "home")
    for name, keys in nodes.items():
        approve(home, name, keys)
    with hosted(home):
        yield home


@contextmanager
def running(home: CoordinatorHome) -> Iterator[tuple[Control, Task]]:
    """A run of the link that is up, taken by this process; whatever was left is stopped first."""
    control = Control(home)
    control.stop_runs()
    control.start_run("autumn")
    task = acquire(home)
    assert task is not None
    yield control, task
    task.finish()
    control.close()
