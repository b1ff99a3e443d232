"""The public listener under attack, over real sockets: nobody brings it to a halt."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.server.proofs import NAMES, signed
from tests.server.public import ELSEWHERE, PATIENCE_S, REQUEST, Public, ends, public, status
from tests.waiting import until

from cloister_server.config import Limits
from cloister_server.door import Door, listening
from cloister_server.guard import RECOGNISE, FleetGuard
from cloister_server.listener import MAX_HEAD_BYTES

HEAD_S = 1.0
IDLE_S = Limits().head_seconds


async def hall(scope, receive, send) -> None:
    """Answers everybody; who asks for /oak is known as that from then on, in bounds."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    name = scope["path"].strip("/")
    is_known = not name or scope["extensions"][RECOGNISE]["as"](name)
    headers = [(b"content-length", b"%d" % len(body))]
    await send(
        {"type": "http.response.start", "status": 200 if is_known else 429, "headers": headers}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Public]:
    with public(tmp_path, hall, head_seconds=HEAD_S, connections_per_address=8) as listener:
        yield listener


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    """Connections that stay open until the test is over."""
    with ExitStack() as stack:
        yield stack


def as_oak(peer: ssl.SSLSocket) -> bytes:
    peer.sendall(REQUEST.replace(b"/ ", b"/oak "))
    first = status(peer)
    while (found := peer.recv(65536)) and not found.endswith(b"hi"):
        pass
    return first


def test_an_honest_request_is_answered(open_to_all: Public) -> None:
    assert open_to_all.asks() == b"HTTP/1.1 200 OK"
    assert open_to_all.heard == []


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"POST / HTTP/1.1\r\nx: ", b"a"),
        (b"POST / HTTP/1.1\r\n", b"x: a\r\n"),
        (b"POST /", b"a"),
    ],
)
def test_headers_without_an_end_are_cut_off(
    open_to_all: Public, first: bytes, again: bytes
) -> None:
    with open_to_all.connect() as peer:
        peer.sendall(first)
        with suppress(OSError):
            peer.sendall(again * (MAX_HEAD_BYTES // len(again)))
        assert status(peer) == b"HTTP/1.1 431 Request Header Fields Too Large"
        assert ends(peer)
    assert open_to_all.heard == [("head", "127.0.0.1")]


def test_headers_that_come_all_at_once_have_the_same_bound(open_to_all: Public) -> None:
    with open_to_all.connect() as peer:
        peer.sendall(REQUEST.replace(b"host: c", b"x: " + b"a" * 2 * MAX_HEAD_BYTES))
        assert status(peer).startswith(b"HTTP/1.1 431")


def test_a_body_after_the_headers_does_not_count_for_them(open_to_all: Public) -> None:
    body = b"b" * 4 * MAX_HEAD_BYTES
    with open_to_all.connect() as peer:
        request = REQUEST.replace(b"length: 2", b"length: %d" % len(body))[:-2] + body
        for _ in range(2):
            peer.sendall(request)
            assert status(peer) == b"HTTP/1.1 200 OK"
            found = b""
            while not found.endswith(body):
                found += peer.recv(65536)


def test_who_sends_headers_slowly_is_hung_up_on(open_to_all: Public) -> None:
    with open_to_all.connect() as peer:
        peer.settimeout(0.1)
        peer.sendall(b"POST /")
        until(lambda: not _takes(peer, b"x"), "it is hung up on", PATIENCE_S)
    assert open_to_all.heard == [("slow", "127.0.0.1")]


def _is_over(peer: socket.socket) -> bool:
    """Whether the other side has ended the connection already."""
    peer.settimeout(0.1)
    try:
        return not peer.recv(1)
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def _takes(peer: ssl.SSLSocket, byte: bytes) -> bool:
    """Whether the other side is still there after one byte more."""
    try:
        peer.sendall(byte)
        return bool(peer.recv(1))
    except TimeoutError:
        return True
    except (ConnectionError, ssl.SSLError):
        return False


def test_who_says_nothing_after_the_handshake_is_hung_up_on(open_to_all: Public) -> None:
    with open_to_all.connect() as peer:
        assert ends(peer)
    assert open_to_all.heard == [("slow", "127.0.0.1")]


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_that_is_never_finished_is_hung_up_on(
    open_to_all: Public, hello: bytes
) -> None:
    with open_to_all.call() as peer:
        peer.sendall(hello)
        assert ends(peer)
    assert open_to_all.heard == [("slow", "127.0.0.1")]


def test_a_stranger_who_was_answered_may_not_stay(open_to_all: Public) -> None:
    with open_to_all.connect() as peer:
        peer.sendall(REQUEST)
        assert status(peer) == b"HTTP/1.1 200 OK"
        assert ends(peer)


def test_a_node_stays_between_two_polls(open_to_all: Public) -> None:
    with open_to_all.connect() as peer, open_to_all.connect() as stranger:
        assert as_oak(peer) == b"HTTP/1.1 200 OK"
        assert ends(stranger)
        assert as_oak(peer) == b"HTTP/1.1 200 OK"


def test_a_node_that_begins_a_request_has_to_end_it_in_time(open_to_all: Public) -> None:
    with open_to_all.connect() as peer:
        as_oak(peer)
        peer.sendall(REQUEST[:20])
        assert ends(peer)
    assert open_to_all.heard == [("slow", "oak")]


def test_idle_connections_of_one_address_keep_no_other_out(
    tmp_path: Path, peers: ExitStack
) -> None:
    with public(tmp_path, hall, connections_per_address=10) as listener:
        idle = [peers.enter_context(listener.call()) for _ in range(100)]
        assert listener.asks(ELSEWHERE) == b"HTTP/1.1 200 OK"
        assert sum(reason == "crowd" for reason, _ in listener.heard) == 90
        assert sum(_is_over(one) for one in idle) == 90


def test_idle_connections_keep_nobody_out_who_shares_their_address(
    tmp_path: Path, peers: ExitStack
) -> None:
    with public(tmp_path, hall, connections_per_address=10) as listener:
        for _ in range(10):
            peers.enter_context(listener.call()).sendall(b"\x16\x03\x01")
        until(lambda: _asks(listener), "who is there longest makes room", 0.9 * IDLE_S)
        assert "slow" not in {reason for reason, _ in listener.heard}


def test_a_full_house_makes_room_for_who_comes(tmp_path: Path, peers: ExitStack) -> None:
    """Whoever has addresses enough for all places is the one who loses them."""
    with public(tmp_path, hall, connections=20, connections_per_address=10) as listener:
        oak = peers.enter_context(listener.connect(ELSEWHERE))
        assert as_oak(oak) == b"HTTP/1.1 200 OK"
        idle = [peers.enter_context(listener.call(f"127.0.1.{one // 10 + 1}")) for one in range(60)]
        assert listener.asks(ELSEWHERE) == b"HTTP/1.1 200 OK"
        assert all(ends(one) for one in idle[:40])
        assert as_oak(oak) == b"HTTP/1.1 200 OK"


def test_strangers_take_no_place_of_a_node_behind_the_same_address(
    open_to_all: Public, peers: ExitStack
) -> None:
    nodes = [peers.enter_context(open_to_all.connect()) for _ in range(4)]
    assert {as_oak(one) for one in nodes} == {b"HTTP/1.1 200 OK"}
    strangers = [peers.enter_context(open_to_all.call()) for _ in range(20)]
    assert all(ends(one) for one in strangers)
    assert {as_oak(one) for one in nodes} == {b"HTTP/1.1 200 OK"}


def test_a_node_has_so_many_connections_and_no_more(open_to_all: Public, peers: ExitStack) -> None:
    answers = [as_oak(peers.enter_context(open_to_all.connect())) for _ in range(9)]
    assert answers == [b"HTTP/1.1 200 OK"] * 8 + [b"HTTP/1.1 429 Too Many Requests"]


def test_places_are_free_again_once_their_peers_have_left(open_to_all: Public) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(open_to_all.call())
        until(lambda: _asks(open_to_all), "a place is free")


def _asks(listener: Public) -> bool:
    try:
        return listener.asks() == b"HTTP/1.1 200 OK"
    except OSError:
        return False


@pytest.mark.parametrize(
    "sent",
    [
        REQUEST.replace(b"content-length: 2", b"transfer-encoding: chunked"),
        REQUEST[:-2] + REQUEST + REQUEST,
        b"\x00" * 100,
        REQUEST.replace(b"host: c", b"content-length: 3"),
    ],
)
def test_what_no_node_sends_is_no_request(open_to_all: Public, sent: bytes) -> None:
    with open_to_all.connect() as peer:
        peer.sendall(sent)
        assert status(peer) == b"HTTP/1.1 400 Bad Request"
        assert ends(peer)
    assert open_to_all.heard == [("form", "127.0.0.1")]


def test_an_address_in_a_header_is_not_believed(tmp_path: Path) -> None:
    seen: list[str] = []

    async def app(scope, receive, send) -> None:
        seen.append(scope["client"][0])
        await hall(scope, receive, send)

    with public(tmp_path, app) as listener, listener.connect() as peer:
        peer.sendall(REQUEST.replace(b"host: c", b"x-forwarded-for: 192.0.2.1"))
        assert status(peer) == b"HTTP/1.1 200 OK"
    assert seen == ["127.0.0.1"]


@pytest.mark.parametrize("size", [100_000, 20_000_000])
def test_an_answer_that_is_not_taken_holds_no_connection(tmp_path: Path, size: int) -> None:
    async def app(scope, receive, send) -> None:
        scope["extensions"][RECOGNISE]["as"]("oak")
        headers = [(b"content-length", b"%d" % size), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    with public(tmp_path, app, head_seconds=HEAD_S) as listener, listener.connect() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(REQUEST)
        until(lambda: ("slow", "oak") in listener.heard, "it is hung up on")


def test_who_asks_again_while_the_last_answer_is_cleared_up_is_not_hurried(tmp_path: Path) -> None:
    """A look for messages may be held for longer than headers may take."""
    asked: list[asyncio.Event] = []

    async def app(scope, receive, send) -> None:
        asked.append(asyncio.Event())
        if len(asked) == 1:
            await hall(scope, receive, send)
            await asked[0].wait()
        else:
            asked[0].set()
            await asyncio.sleep(2 * HEAD_S)
            await hall(scope, receive, send)

    with public(tmp_path, app, head_seconds=HEAD_S) as listener, listener.connect() as peer:
        assert [as_oak(peer), as_oak(peer)] == [b"HTTP/1.1 200 OK"] * 2
    assert listener.heard == []


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    door = Door(Limits(), lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        listening(door, "127.0.0.1", other.getsockname()[1])


# With the guard behind it.


def of_oak(path: str, length: int) -> bytes:
    """The headers of a request of oak's."""
    lines = [name + b": " + value for name, value in signed(length=length).items()]
    return b"\r\n".join([b"POST " + path.encode() + b" HTTP/1.1", *lines, b"", b""])


@dataclass
class Generous:
    """Stands where the SuperLink does: answers a question with far more than anybody reads."""

    size: int = 20_000_000
    ended: int = 0

    async def __call__(self, scope, receive, send) -> None:
        await receive()
        headers = [(b"content-length", b"%d" % self.size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await send({"type": "http.response.body", "body": bytes(self.size)})
        finally:
            self.ended += 1


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/v1/fleet/push-object"])
def test_a_small_body_that_trickles_is_cut_off(tmp_path: Path, path: str) -> None:
    heard: list[tuple[str, str]] = []
    limits = Limits(body_seconds=HEAD_S)
    guard = FleetGuard(Generous(), NAMES.get, limits, lambda *what: heard.append(what))
    with public(tmp_path, guard) as listener, listener.connect() as peer:
        peer.sendall(of_oak(path, 1000))
        peer.settimeout(0.1)
        until(lambda: not _takes(peer, b"x"), "it is cut off", PATIENCE_S)
    assert heard == [("slow", "127.0.0.1")]


def test_an_answer_that_is_not_taken_holds_no_memory_for_long(
    tmp_path: Path, peers: ExitStack
) -> None:
    """The two that a node may ask for at a time, and then again two."""
    flower, limits = Generous(), Limits(body_seconds=HEAD_S, head_seconds=HEAD_S)
    guard = FleetGuard(flower, NAMES.get, limits)
    with public(tmp_path, guard, head_seconds=HEAD_S) as listener:
        for served in (2, 4):
            for _ in range(2):
                peer = peers.enter_context(listener.connect())
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.sendall(of_oak("/v1/fleet/pull-object", 2) + b"hi")
            until(lambda served=served: flower.ended == served, "it is given up", PATIENCE_S)
        until(lambda: listener.heard == [("slow", "oak")] * 4, "it is hung up on", PATIENCE_S)
