"""Running the service: one process, one socket, no access log."""

import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from cloister_client.home import NodeHome
from cloister_client.serving.app import create_app
from cloister_shared.errors import ServiceError

SHUTDOWN_S = 10
"""How long requests may go on after SIGTERM."""


def announce(address: str) -> None:
    """Print the service's address at once, also into a pipe."""
    print(f"Listening on {address}", flush=True)


def serve(home: NodeHome, host: str, port: int, on_ready: Callable[[str], None] = announce) -> None:
    """Answer HTTP requests until SIGTERM, which lets running requests end and exits with 0.

    ``port`` 0 takes a free one; ``on_ready`` is told the address once it accepts connections.
    Traffic is not encrypted: another host than loopback belongs behind a proxy that speaks TLS.
    Raises ``ServiceError`` if the address cannot be had.
    """
    with _listen(host, port) as listener:
        # uvicorn takes SIGTERM over, shuts down, then raises it again: an exit, not a kill.
        signal.signal(signal.SIGTERM, _exit)
        # Request lines name learners: no access log.
        config = uvicorn.Config(
            create_app(home),
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        on_ready(_address(listener))
        uvicorn.Server(config).run(sockets=[listener])


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another"
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
