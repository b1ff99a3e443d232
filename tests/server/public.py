"""A public listener in a thread of the tests' own process, over TLS on loopback, and its peers."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp
from tests.hosted import CURRICULUM
from tests.waiting import free_port, until

from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.door import Door
from cloister_server.home import CoordinatorHome
from cloister_server.listener import PublicServer

LOOPBACK, ELSEWHERE = "127.0.0.1", "127.0.0.2"
PATIENCE_S = 20.0
"""For what takes a fraction of a second on a machine that has time."""


@dataclass
class Public:
    """A listener that is up; ``heard`` is what its door told."""

    port: int
    trust: ssl.SSLContext
    heard: list[tuple[str, str]] = field(default_factory=list)

    def call(self, address: str = LOOPBACK) -> socket.socket:
        """A connection from ``address``, before TLS."""
        return socket.create_connection((LOOPBACK, self.port), PATIENCE_S, (address, 0))

    def connect(self, address: str = LOOPBACK) -> ssl.SSLSocket:
        """The same, after the handshake."""
        return self.trust.wrap_socket(self.call(address), server_hostname=LOOPBACK)

    def asks(self, address: str = LOOPBACK) -> bytes:
        """The status line of an answer to a request that is as it should be."""
        with self.connect(address) as peer:
            peer.sendall(REQUEST)
            return status(peer)


REQUEST = b"POST / HTTP/1.1\r\nhost: c\r\ncontent-length: 2\r\n\r\nhi"


def status(peer: socket.socket) -> bytes:
    """The first line that comes; empty if the connection ends before."""
    line = b""
    with suppress(OSError):
        while b"\r\n" not in line and (found := peer.recv(1)):
            line += found
    return line.strip()


def ends(peer: socket.socket) -> bool:
    """Whether the other side ends the connection, whatever it still sends."""
    with suppress(ConnectionError, ssl.SSLError):
        while peer.recv(65536):
            pass
    return True


@contextmanager
def public(folder: Path, app: ASGIApp, **limits: float) -> Iterator[Public]:
    """A listener before ``app``, with these limits."""
    config = CoordinatorConfig(
        consortium="tests", address=LOOPBACK, listen=LOOPBACK, port=free_port()
    )
    home = CoordinatorHome.create(folder / "home", config, CURRICULUM)
    trust = ssl.create_default_context(cadata=home.authority_pem())
    listener = Public(config.port, trust)
    door = Door(Limits.model_validate(limits), lambda *what: listener.heard.append(what))
    server = PublicServer(app, door, (LOOPBACK, config.port), home.tls_files())
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the listener listens")
        yield listener
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE_S)
