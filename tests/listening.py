"""A coordinator's public listener in this process: TLS on a free port, the route for joining."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.home import CoordinatorHome
from cloister_server.join_route import join_app
from cloister_shared.curriculum import Curriculum


@contextmanager
def listening(folder: Path, curriculum: Curriculum) -> Iterator[CoordinatorHome]:
    """A fresh coordinator in ``folder`` that takes requests to join."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = CoordinatorConfig(
            consortium="north",
            address="127.0.0.1",
            port=listener.getsockname()[1],
            limits=Limits(joins_per_minute=1000),
        )
        home = CoordinatorHome.create(folder, config, curriculum)
        with serving(home, listener):
            yield home


@contextmanager
def serving(home: CoordinatorHome, listener: socket.socket) -> Iterator[None]:
    """The route over TLS with the home's certificate."""
    certificate, key = home.tls_files()
    settings = uvicorn.Config(
        join_app(home),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="error",
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
