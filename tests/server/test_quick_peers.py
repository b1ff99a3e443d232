"""A node that asks again the moment it has an answer is served, whatever is left to do for that."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.public import REQUEST, Public, public

LATE_S = 0.3
EMPTY = REQUEST.replace(b"/ ", b"/nothing ")


async def hesitant(scope, receive, send) -> None:
    """Says that its answer is over some time after its last byte, as Flower's layers do."""
    while (await receive()).get("more_body", False):
        pass
    body = b"hi" if scope["path"] == "/" else b""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await asyncio.sleep(LATE_S)
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Public]:
    with public(tmp_path, hesitant) as one:
        yield one


@pytest.mark.parametrize(("request_", "end"), [(REQUEST, b"hi"), (EMPTY, b"\r\n\r\n")])
def test_an_answer_is_over_with_its_last_byte(
    listener: Public, request_: bytes, end: bytes
) -> None:
    with listener.connect() as peer:
        for _ in range(3):
            peer.sendall(request_)
            answer = b""
            while not answer.endswith(end):
                answer += peer.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK")
    assert listener.heard == []
