"""What stands before Flower: peers are refused by their headers, before a byte of a body is read.

Flower reads and parses a request before it asks who sent it. So the public listener shows it only
requests of approved nodes, of a bounded size, on the paths that nodes need. The listener on
loopback asks for a secret: other users of the machine can reach it as well.
"""

import asyncio
import hmac
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_server.announcements import flaw
from cloister_server.config import Limits
from cloister_server.networks import without_zone
from cloister_server.seldom import Heard

FLEET, CONTROL, RUNTIME = "/v1/fleet/", "/v1/control/", "/v1/runtime/"
BELL = "/v1/cloister/bell"
"""Ours, beside Flower's: see :mod:`cloister_server.bell`."""
_SECRET = (CONTROL, BELL)
FLEET_PATHS = frozenset(
    FLEET + name
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""All that a node needs. Nodes are registered by the coordinator alone."""

PUBLIC_KEY, SIGNATURE, TIMESTAMP = b"flwr-public-key", b"flwr-signature", b"flwr-timestamp"
_ONCE = (PUBLIC_KEY, SIGNATURE, TIMESTAMP, b"content-length")
CONTROL_HEADER = "x-cloister-control"
RECOGNISE = "cloister.recognise"
"""Extension of a request's scope: ``as`` counts its connection for a node; false if it has many."""
OLDEST_S, NEWEST_S = 305.0, -5.0
"""Flower's window for the age of a signed timestamp."""

_LIGHT_BYTES = 64 * 1024
_HEAVY_AT_ONCE = 4
"""Bodies beyond ``_LIGHT_BYTES`` that are in memory at one time, in either direction."""

_ANNOUNCE, _PUSH_OBJECT, _PULL_OBJECT, _CONFIRM = (
    FLEET + name
    for name in ("push-messages", "push-object", "pull-object", "confirm-message-received")
)
_PROTOBUF = b"application/protobuf"
_ANNOUNCED_SHARE = 0.1
"""Of a node's requests, how many may announce answers: each leaves rows in Flower's database."""

_OF_ONE_NODE = 2
"""Requests of one node with such bodies that are looked at: one, and one that waits for it."""

Named = Callable[[bytes], str | None]
"""The name of the approved node with this transport key (PEM), if there is one."""


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str, peer: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.peer = peer


@dataclass
class RateLimit:
    """So many tokens a second for each key, and at most ``burst`` saved up."""

    per_second: float
    burst: float
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def takes(self, key: str, now: float) -> bool:
        """Whether one more is allowed at ``now`` (seconds of a monotonic clock)."""
        tokens, before = self._buckets.get(key, (self.burst, now))
        tokens = min(self.burst, tokens + (now - before) * self.per_second)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        return allowed


class FleetGuard:
    """Lets through to ``app`` what approved nodes send on Flower's fleet paths."""

    def __init__(
        self,
        app: ASGIApp,
        named: Named,
        limits: Limits,
        heard: Heard = lambda reason, peer: None,
    ) -> None:
        self._app = app
        self._named = named
        self._limits = limits
        self._heard = heard
        self._rate = RateLimit(limits.requests_per_second, limits.burst)
        self._announced = RateLimit(
            _ANNOUNCED_SHARE * limits.requests_per_second,
            max(1.0, _ANNOUNCED_SHARE * limits.burst),
        )
        self._slots = asyncio.Semaphore(_HEAVY_AT_ONCE)
        self._turns: dict[str, asyncio.Lock] = {}
        self._here: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: refused, or handed on once its body is there."""
        if scope["type"] != "http":
            return
        try:
            node, length = self._admit(scope)
            if length > _LIGHT_BYTES or scope["path"] == _PULL_OBJECT:
                async with self._alone(node), self._slots:
                    await self._serve(scope, receive, send, node, length)
            else:
                await self._serve(scope, receive, send, node, length)
        except _RefusedError as refusal:
            self._heard(refusal.reason, refusal.peer or _address(scope))
            await refuse(send, refusal.status)

    def _admit(self, scope: Scope) -> tuple[str, int]:
        """The node that asks and the length of its body; nothing but headers is looked at."""
        if scope["path"] not in FLEET_PATHS or scope["method"] != "POST":
            raise _RefusedError(404, "path")
        given = cast("list[tuple[bytes, bytes]]", scope["headers"])
        headers = dict(given)
        once = [name for name, _ in given if name in _ONCE]
        if len(set(once)) < len(once):
            raise _RefusedError(400, "header")  # one of us would read the first, the other the last
        length = _length(headers)
        if length > (
            self._limits.max_body_bytes if scope["path"] == _PUSH_OBJECT else _LIGHT_BYTES
        ):
            raise _RefusedError(413, "size")
        node = self._authenticated(headers)
        if not _recognised(scope, node):
            raise _RefusedError(429, "crowd", node)
        if not self._has_share(scope["path"], node, asyncio.get_running_loop().time()):
            raise _RefusedError(429, "rate", node)
        return node, length

    def _has_share(self, path: str, node: str, now: float) -> bool:
        is_taken = self._rate.takes(node, now)
        return is_taken and (path != _ANNOUNCE or self._announced.takes(node, now))

    def _authenticated(self, headers: Mapping[bytes, bytes]) -> str:
        try:
            key = b64decode(headers[PUBLIC_KEY], validate=True)
            node = self._named(key)
            if node is None:
                raise _RefusedError(401, "unknown")
            _check_signature(key, headers)
        except (KeyError, ValueError, TypeError, InvalidSignature) as error:
            raise _RefusedError(401, "signature") from error
        return node

    @asynccontextmanager
    async def _alone(self, node: str) -> AsyncIterator[None]:
        """One large body at a time for each node, and one that waits: none takes all places.

        A node has the whole answer a moment before we are done with it, and asks the next.
        """
        if self._here[node] >= _OF_ONE_NODE:
            raise _RefusedError(429, "busy", node)
        self._here[node] += 1
        try:
            async with self._turns.setdefault(node, asyncio.Lock()):
                yield
        finally:
            self._here[node] -= 1

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, node: str, length: int
    ) -> None:
        """Take the whole body, then let ``app`` answer; a peer that is too slow is cut off."""
        answering = _Answering(send)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await _body(receive, length)
                found = flaw(body) if scope["path"] == _ANNOUNCE else None
                if found is not None:
                    raise _RefusedError(400, found, node)
                app = _confirmed if scope["path"] == _CONFIRM else self._app
                await app(scope, _Replay(body, receive), answering)
        except TimeoutError as error:
            if not answering.began:
                raise _RefusedError(408, "slow") from error


class ControlGuard:
    """Before the listener on loopback: control only with the secret, the bell too, and no fleet."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a process on this machine, or of the server itself (``lifespan``)."""
        if scope["type"] == "http":
            path: str = scope["path"]
            given = dict(scope["headers"]).get(CONTROL_HEADER.encode(), b"")
            if path.startswith(_SECRET) and not hmac.compare_digest(given, self._secret):
                return await refuse(send, 403)
            if not path.startswith((*_SECRET, RUNTIME)):
                return await refuse(send, 404)
        return await self._app(scope, receive, send)


async def _confirmed(scope: Scope, receive: Receive, send: Send) -> None:
    """Flower's answer to a node that has its message, which Flower is not told of.

    It would delete what the node was sent, and with it content that others are asked with; the node
    could then name that content as its own, with other parts. The runner deletes what it asked.
    """
    del scope, receive
    headers = [(b"content-type", _PROTOBUF), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse(send: Send, status: int) -> None:
    """An answer without a body; the connection ends, whatever else would come over it."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class _Answering:
    """``send``, in small pieces, and whether an answer has begun.

    TLS keeps a buffer as large as the largest piece for as long as the node stays connected.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.began = False

    async def __call__(self, message: Message) -> None:
        self.began = True
        body: bytes = message.get("body", b"")
        if message["type"] == "http.response.body" and len(body) > _LIGHT_BYTES:
            more = message.get("more_body", False)
            for start in range(0, len(body), _LIGHT_BYTES):
                end = start + _LIGHT_BYTES
                piece = {"body": body[start:end], "more_body": more or end < len(body)}
                await self._send({"type": message["type"], **piece})
        else:
            await self._send(message)


class _Replay:
    """A body that was read already, and after it whatever comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._message: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return await self._receive() if message is None else message


async def _body(receive: Receive, length: int) -> bytes:
    """The body, of exactly ``length`` bytes."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _RefusedError(400, "gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > length:
            raise _RefusedError(413, "size")
    return bytes(body)


def _recognised(scope: Scope, node: str) -> bool:
    """Whether the connection may count for the node."""
    return bool(scope["extensions"][RECOGNISE]["as"](node))


def _length(headers: Mapping[bytes, bytes]) -> int:
    given = headers.get(b"content-length", b"")
    if not given.isdigit() or len(given) > 18:
        raise _RefusedError(411, "length")
    return int(given)


def _check_signature(key: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Raise ``ValueError`` or ``InvalidSignature`` unless ``key`` signed the time just now."""
    timestamp = headers[TIMESTAMP]
    signed = datetime.fromisoformat(timestamp.decode("ascii"))
    if not NEWEST_S < (datetime.now(UTC) - signed).total_seconds() < OLDEST_S:
        raise ValueError("signed at another time")
    signature = b64decode(headers[SIGNATURE], validate=True)
    _loaded(key).verify(signature, timestamp, ECDSA(SHA256()))


@lru_cache(maxsize=1024)
def _loaded(key: bytes) -> EllipticCurvePublicKey:
    public = load_pem_public_key(key)
    if not isinstance(public, EllipticCurvePublicKey):
        raise ValueError("not a key of an elliptic curve")
    return public


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return without_zone(str(client[0])) if client else "unknown"
