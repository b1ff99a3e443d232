"""Who may ask, and how much they may send."""

import secrets
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024

_BEARER = HTTPBearer(auto_error=False, description="The node's API token.")


async def require_token(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> None:
    """Refuse (401) whoever does not send the node's token; the comparison takes constant time."""
    token: str = request.app.state.api_token
    sent = given.credentials if given else ""
    if not secrets.compare_digest(sent.encode(), token.encode()):
        raise HTTPException(
            401,
            "this service asks for the node's API token as 'Authorization: Bearer TOKEN'",
            headers={"WWW-Authenticate": "Bearer"},
        )


class BodyLimit:
    """Refuses (413) a longer request body before it is kept in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting the bytes of its body."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, f"a request may send at most {MAX_BODY_BYTES} bytes")
            return message

        await self._app(scope, counted, send)
