"""Who wants news waits until the bell rings, in place of asking again and again.

Flower answers a look for messages at once, and each look costs it several queries; on a busy link
most of the time went into looks in vain. So a node's look is held, before Flower, until the runner
has sent that node something; and the runner waits, at the same bell, until a node has sent
anything. Nothing depends on a ring: whoever has waited long enough looks all the same.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import httpx
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from google.protobuf.message import DecodeError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_server.guard import BELL, CONTROL_HEADER, FLEET

HOLD_S: Final = 10.0
"""So long a node's look is held at most; well below any proxy's patience, and the node's own."""
_LONGEST_WAIT_S: Final = 10.0
_PULL: Final = FLEET + "pull-messages"
_NEWS: Final = frozenset({FLEET + "push-messages", FLEET + "push-object"})
_RUNNER: Final = 0
"""The runner's key; Flower gives no node this id."""
_CALL_S: Final = 30.0


class Bell:
    """Counts rings for each key, and wakes who waits for the next; one waits at a time."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._is_closed = False

    def close(self) -> None:
        """Let everybody go, and nobody wait any more: the link is about to end."""
        self._is_closed = True
        for key in list(self._waiting):
            self._wake(key, rang=False)

    def count(self, key: int) -> int:
        """How often it rang for ``key`` until now."""
        return self._counts[key]

    def ring(self, key: int) -> None:
        """Ring once for ``key``."""
        self._counts[key] += 1
        self._wake(key, rang=True)

    async def wait(self, key: int, known: int, within_s: float) -> bool:
        """Whether it rings, or has rung, after ``known`` times; false once the time is over.

        Whoever comes later for the same key takes the place: who was there is told no.
        """
        if self._counts[key] != known or self._is_closed:
            return not self._is_closed
        self._wake(key, rang=False)
        mine = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                rang: bool = await mine
                return rang
        except TimeoutError:
            return False
        finally:
            if self._waiting.get(key) is mine:
                del self._waiting[key]

    def _wake(self, key: int, rang: bool) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(rang)


@dataclass(frozen=True)
class HeldLooks:
    """Flower's fleet interface ``app``, whose answers to looks for messages wait for one.

    Stands behind the guard: whoever is held was admitted. ``hold_s`` must be shorter than the guard
    lets a request take. Flower gives out a message once: so none is fetched for a node that has
    gone, nor for a look that the same node has given up for a later one.
    """

    app: ASGIApp
    bell: Bell
    hold_s: float = HOLD_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of a node."""
        if scope["path"] == _PULL:
            await self._pull(scope, receive, send)
            return
        await self.app(scope, receive, send)
        if scope["path"] in _NEWS:
            self.bell.ring(_RUNNER)

    async def _pull(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        gone = asyncio.ensure_future(_gone(receive))
        try:
            answer = await self._found(scope, body, gone)
        finally:
            gone.cancel()
        for message in answer.messages:
            await send(message)

    async def _found(self, scope: Scope, body: bytes, gone: "asyncio.Future[None]") -> "_Answer":
        """Flower's first answer with something in it, or its last one."""
        node, end = _asking(body), time.monotonic() + self.hold_s
        while True:
            rung, answer = self.bell.count(node), _Answer()
            await self.app(scope, _once(body), answer)
            left_s = end - time.monotonic()
            if not answer.is_empty or not await self._rings(node, rung, left_s, gone):
                return answer

    async def _rings(
        self, node: int, known: int, within_s: float, gone: "asyncio.Future[None]"
    ) -> bool:
        """Whether it rings for a node that is still there."""
        ringing = asyncio.ensure_future(self.bell.wait(node, known, within_s))
        try:
            await asyncio.wait((ringing, gone), return_when=asyncio.FIRST_COMPLETED)
            return not gone.done() and ringing.result()
        finally:
            ringing.cancel()


@dataclass(frozen=True)
class BellRoute:
    """The path :data:`BELL`, for a process that showed the control secret; the rest is for ``app``.

    ``POST`` of a node's id rings for that node. ``GET`` with ``known`` and ``within`` waits so many
    seconds for more news of nodes than ``known``, and answers how many there were.
    """

    app: ASGIApp
    bell: Bell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"] == BELL:
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        try:
            if request.method == "POST":
                self.bell.ring(int(await request.body()))
                return Response(status_code=204)
            known = int(request.query_params["known"])
            within_s = min(float(request.query_params["within"]), _LONGEST_WAIT_S)
        except (KeyError, ValueError):
            return Response(status_code=400)
        await self.bell.wait(_RUNNER, known, within_s)
        return PlainTextResponse(str(self.bell.count(_RUNNER)))


class BellRope:
    """The runner's end: rings for nodes at the link on ``address`` (host:port), and waits.

    A link that is away is no error here: nodes look anew when it is back, and so does the runner.
    """

    def __init__(self, address: str, secret: str) -> None:
        self._client = httpx.Client(
            base_url=f"http://{address}", headers={CONTROL_HEADER: secret}, timeout=_CALL_S
        )
        self._known = 0

    def ring(self, node: int) -> None:
        """There is something for ``node``."""
        with suppress(httpx.HTTPError):
            self._client.post(BELL, content=str(node))

    def wait(self, within_s: float) -> None:
        """Return when a node has sent anything since the last time, or after ``within_s``."""
        end = time.monotonic() + within_s
        asked = {"known": self._known, "within": within_s}
        try:
            answer = self._client.get(BELL, params=asked).raise_for_status()
            self._known = int(answer.text)
        except (httpx.HTTPError, ValueError):
            time.sleep(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@dataclass
class _Answer:
    """Takes an answer, which is sent only if it says something."""

    messages: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def is_empty(self) -> bool:
        """Whether it is a good answer that there is no message."""
        body = b"".join(one.get("body", b"") for one in self.messages)
        is_good = self.messages[0]["status"] == httpx.codes.OK
        return is_good and not PullMessagesResponse.FromString(body).messages_list


def _asking(body: bytes) -> int:
    """The id that a look for messages bears; Flower refuses what is none, or another node's."""
    try:
        node: int = PullMessagesRequest.FromString(body).node.node_id
    except DecodeError:
        return _RUNNER
    return node


async def _gone(receive: Receive) -> None:
    """Return once the peer has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _once(body: bytes) -> Receive:
    """``receive`` of a request that has all of its body already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
