"""A network between a node and its coordinator that can be cut, and mended."""

import socket
import threading
from contextlib import suppress

_PIECE = 65536


class Relay:
    """Passes TCP connections on to ``port``, until it is cut: then all bytes wait where they are.

    Nobody is told: connections stay open and new ones are taken, as where a cable was pulled.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._take, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing passes."""
        self._open.clear()

    def mend(self) -> None:
        """What waits passes, and what comes after it."""
        self._open.set()

    def close(self) -> None:
        self._listener.close()
        self.mend()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        self._open.wait()
        with suppress(OSError):
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._carry, args=(far, near), daemon=True).start()
            self._carry(near, far)
            return
        near.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                self._open.wait()
                target.sendall(piece)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
