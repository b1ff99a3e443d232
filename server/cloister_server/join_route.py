"""``POST /v1/join``: the one path on the public listener that is open to strangers.

It takes little, seldom: a signed request of at most 16 KiB, some a minute from one address. What it
changes is a list for the operator to look at.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister_server.directory import Member
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_server.join_limit import JoinLimit
from cloister_server.networks import without_zone
from cloister_server.seldom import Seldom
from cloister_shared import __version__
from cloister_shared.errors import MessageError, PolicyError
from cloister_shared.journal import Event
from cloister_shared.kit import (
    MAX_REQUEST_BYTES,
    JoinAnswer,
    JoinRequest,
    SignedRequest,
    StandingRequest,
)

_BODY_SECONDS = 10.0


def join_app(home: CoordinatorHome) -> ASGIApp:
    """The route, for the listener that nodes reach; it looks at no path."""
    return _JoinRoute(home)


class _JoinRoute:
    """Answers requests to join, and members' questions what became of theirs."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._invitations, self._directory = Invitations(home), home.directory()
        self._limit = JoinLimit(home.config.limits.joins_per_minute)
        self._journal = home.link_journal()
        self._refused = Seldom(self._write_refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        address = without_zone(request.client.host) if request.client else "unknown"
        response = await self._respond(request, address)
        await response(scope, receive, send)

    async def _respond(self, request: Request, address: str) -> Response:
        if request.method != "POST":
            return _error(405, "this path takes POST")
        if not self._limit.takes(address, asyncio.get_running_loop().time()):
            return _error(429, "too many requests to join; wait a minute")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(request)
            said = await asyncio.to_thread(self._answer, body, address)
        except (TimeoutError, ClientDisconnect):
            return _error(408, "the request did not arrive in time")
        except MessageError as error:
            return _error(400, str(error))
        except PolicyError as error:
            return _error(403, str(error))
        return JSONResponse(said.model_dump(mode="json"))

    def _answer(self, body: bytes, address: str) -> JoinAnswer:
        request = SignedRequest.parse(body)
        if isinstance(request, JoinRequest):
            member = self._redeem(request, address)
        else:
            member = _own(self._directory.get(request.node), request)
        return JoinAnswer(
            node=member.name,
            consortium=self._home.config.consortium,
            standing=member.standing,
            declared_size=member.declared_size,
            curriculum=self._home.curriculum.digest,
            release=__version__,
        )

    def _redeem(self, request: JoinRequest, address: str) -> Member:
        """Who has joined; what is refused is written down among what strangers do."""
        try:
            return self._invitations.redeem(request, address)
        except PolicyError as error:
            self._refused(error.code, request.node)
            raise

    def _write_refusal(self, code: str, node: str, _: int) -> None:
        self._journal.write(Event.REFUSED, code=code, action="join", node=node)


def _own(member: Member | None, request: StandingRequest) -> Member:
    if member is None or member.signing_key != request.signing_key:
        raise PolicyError(
            f"it knows no node {request.node} with this key; join again with a new kit", "node"
        )
    return member


async def _body(request: Request) -> bytes:
    """The body; ``MessageError`` as soon as it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST_BYTES:
            raise MessageError(f"a request to join has at most {MAX_REQUEST_BYTES} bytes")
    return bytes(body)


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status, {"connection": "close"})
