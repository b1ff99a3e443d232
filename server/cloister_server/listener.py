"""The public listener's side of HTTP: what a peer may send before the guard sees a request of it.

uvicorn takes headers without end, for as long as they take, and one request behind the other.
Here a request's line and headers are bounded in bytes and time, a request comes after the answer to
the one before, and a body's length is told.
"""

import asyncio
import http
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cloister_server.door import Connection, Door, listening
from cloister_server.guard import RECOGNISE

MAX_HEAD_BYTES = 16 * 1024
"""Of a request's line and headers: a node's have about 1 KiB."""
_KEEP_ALIVE_S = 75
"""For a node between two polls; who has not proved a name has ``head_seconds``."""
_BACKLOG = 128
"""Peers that wait to be accepted, and that are accepted in one go."""
_GRACE_S = 3
"""At the end, for calls that are worked on; idle nodes do not hear that it is the end."""


class _FormError(Exception):
    """A request that no node sends."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, within bounds."""

    def __init__(self, door: Door, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door = door
        self._head_seconds = door.limits.head_seconds
        self._behind, self.app = self.app, self._to_its_end
        self._head: int | None = 0
        """Bytes of the headers that are coming in; ``None`` once they are complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done."""
        self._peer: Connection = self._door.connection(transport.get_extra_info("socket").fileno())
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Some bytes: of headers no more than there is room for."""
        if self._head is not None:
            self._peer.within(self._head_seconds)
            room = MAX_HEAD_BYTES - self._head
            self._head += min(room, len(data))
            self._feed(data[:room])
            if self._head == MAX_HEAD_BYTES:
                self._refuse(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head")
            data = data[room:]
        self._feed(data)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self.cycle is not None and not self.cycle.response_complete:
            raise _FormError("a request before the answer to the one before")
        super().on_message_begin()
        self.scope["extensions"] = {RECOGNISE: {"as": self._peer.recognise}}

    def on_headers_complete(self) -> None:
        """From here on the guard minds the time."""
        if any(name == b"transfer-encoding" for name, _ in self.headers):
            raise _FormError("a body of a length that is not told")
        self._head = None
        self._peer.unhurried()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """An answer is on its way; strangers may not stay for long, nor whoever is to go."""
        self._head = 0
        if self.transport.is_closing() or not self._peer.node:
            self._peer.within(self._head_seconds)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no request."""
        del msg
        self._refuse(http.HTTPStatus.BAD_REQUEST, "form")

    async def _to_its_end(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app; a peer that has not taken its answer by then is not waited for."""
        cycle = self.cycle  # the next request may be here before the app is done with this one
        try:
            await self._behind(scope, receive, _Ending(send))
        finally:
            if not cycle.response_complete:
                self._peer.within(self._head_seconds)

    def _feed(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            super().data_received(data)

    def _refuse(self, status: http.HTTPStatus, reason: str) -> None:
        if self.transport.is_closing():
            return
        self._door.heard(reason, self._peer.node or self._peer.address)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        self.transport.write(f"{line}content-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.transport.close()
        self._peer.within(self._head_seconds)


class _Ending:
    """``send`` that ends an answer with the last of the bytes that were told, be it none.

    Flower's layers say so only afterwards. A quick peer has asked again by then.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._left: int | None = None

    async def __call__(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if message["type"] == "http.response.start":
            self._left = _length(message["headers"])
            await self._send(message)
            if self._left == 0:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._left is None:
            await self._send(message)
        elif body or self._left > 0:
            self._left -= len(body)
            more = message.get("more_body", False) and self._left > 0
            await self._send({"type": message["type"], "body": body, "more_body": more})


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The length that an answer tells of itself."""
    told = dict(headers).get(b"content-length")
    return None if told is None else int(told)


class QuietServer(uvicorn.Server):
    """One of two in a process: signals are for both, see ``serve_link``."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class PublicServer(QuietServer):
    """Serves ``app`` over TLS to everybody whom ``door`` lets in.

    Raises ``OSError`` if it cannot listen.
    """

    def __init__(
        self, app: ASGIApp, door: Door, address: tuple[str, int], tls: tuple[Path, Path]
    ) -> None:
        certificate, key = tls
        host, port = address
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, door)),
                lifespan="off",
                ws="none",
                # The peer is who it is, whatever a header says.
                proxy_headers=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
                log_config=None,
                access_log=False,
            )
        )
        self._door = door

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        bound = sockets or listening(self._door, self.config.host, self.config.port)
        await super().serve(bound)
