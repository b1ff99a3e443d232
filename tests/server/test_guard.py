"""The guards: who is refused, and that nothing of a refused request was read."""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse
from tests.server.proofs import KEY, NAMES, STRANGER, pem, signed

from cloister_server.config import Limits
from cloister_server.guard import (
    CONTROL_HEADER,
    FLEET_PATHS,
    PUBLIC_KEY,
    RECOGNISE,
    SIGNATURE,
    TIMESTAMP,
    ControlGuard,
    FleetGuard,
    RateLimit,
)

PULL, PUSH = "/v1/fleet/pull-messages", "/v1/fleet/push-object"
ANNOUNCE = "/v1/fleet/push-messages"
MIB = 2**20


@dataclass
class Peer:
    """One request, chunk by chunk, and what was answered."""

    chunks: list[bytes] = field(default_factory=lambda: [b"body"])
    pause_s: float = 0.0
    read: int = 0
    statuses: list[int] = field(default_factory=list)
    answer: list[tuple[bytes, bool]] = field(default_factory=list)
    """Pieces of the answer, and whether another one was to follow."""

    async def receive(self) -> dict[str, object]:
        await asyncio.sleep(self.pause_s)
        self.read += 1
        chunk = self.chunks[self.read - 1]
        more = self.read < len(self.chunks)
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(self, message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(int(str(message["status"])))
        else:
            self.answer.append((bytes(message["body"]), bool(message.get("more_body"))))

    async def ask(
        self,
        guard,
        path: str,
        headers: dict[bytes, bytes] | list[tuple[bytes, bytes]],
        method: str = "POST",
        recognise: Callable[[str], bool] = lambda name: True,
    ) -> int:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": list(headers.items()) if isinstance(headers, dict) else headers,
            "client": ("192.0.2.1", 4000),
            "extensions": {RECOGNISE: {"as": recognise}},
        }
        await guard(scope, self.receive, self.send)
        assert len(self.statuses) == 1
        return self.statuses[0]


@dataclass
class Flower:
    """Stands where the SuperLink does: takes the body, answers 200."""

    bodies: list[bytes] = field(default_factory=list)
    hold: Callable[[], "asyncio.Future[None]"] | None = None

    async def __call__(self, scope, receive, send) -> None:
        self.bodies.append((await receive())["body"])
        if self.hold is not None:
            await self.hold()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})


def guarded(flower: Flower, **limits: float) -> tuple[FleetGuard, list[tuple[str, str]]]:
    heard: list[tuple[str, str]] = []
    guard = FleetGuard(
        flower, NAMES.get, Limits.model_validate(limits), lambda *what: heard.append(what)
    )
    return guard, heard


def ask(
    headers: dict[bytes, bytes], peer: Peer | None = None, path: str = PULL, **limits: float
) -> tuple[int, Peer, Flower, list[tuple[str, str]]]:
    flower, peer = Flower(), peer or Peer()
    guard, heard = guarded(flower, **limits)
    status = asyncio.run(peer.ask(guard, path, headers))
    return status, peer, flower, heard


def test_an_approved_node_reaches_flower_with_its_whole_body() -> None:
    status, _, flower, heard = ask(signed(length=6), Peer([b"ab", b"cd", b"ef"]))
    assert (status, flower.bodies, heard) == (200, [b"abcdef"], [])


def test_an_unregistered_peer_is_refused_before_its_body_is_read() -> None:
    status, peer, flower, heard = ask(signed(STRANGER))
    assert (status, peer.read, flower.bodies) == (401, 0, [])
    assert heard == [("unknown", "192.0.2.1")]


@pytest.mark.parametrize("missing", [PUBLIC_KEY, SIGNATURE, TIMESTAMP])
def test_a_request_without_its_proof_is_refused_unread(missing: bytes) -> None:
    headers = signed()
    del headers[missing]
    status, peer, _, _ = ask(headers)
    assert (status, peer.read) == (401, 0)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (PUBLIC_KEY, b"%%%"),
        (SIGNATURE, b"%%%"),
        (SIGNATURE, b64encode(b"x" * 100)),
        (TIMESTAMP, b"yesterday"),
        (TIMESTAMP, b"2026-01-01T00:00:00"),
        (TIMESTAMP, b"\xff"),
    ],
)
def test_nonsense_in_the_proof_is_refused_unread(header: bytes, value: bytes) -> None:
    status, peer, _, _ = ask({**signed(), header: value})
    assert (status, peer.read) == (401, 0)


@pytest.mark.parametrize("twice", [PUBLIC_KEY, SIGNATURE, TIMESTAMP, b"content-length"])
def test_a_revoked_node_does_not_slip_in_ahead_of_an_approved_ones_headers(twice: bytes) -> None:
    revoked, approved = signed(STRANGER), signed()
    flower, peer = Flower(), Peer()
    guard, heard = guarded(flower)
    headers = [(twice, revoked[twice]), *approved.items()]
    assert asyncio.run(peer.ask(guard, PULL, headers)) == 400
    assert (peer.read, flower.bodies, heard) == (0, [], [("header", "192.0.2.1")])


def test_a_key_cannot_be_used_with_another_ones_signature() -> None:
    status, peer, _, _ = ask({**signed(STRANGER), PUBLIC_KEY: b64encode(pem(KEY))})
    assert (status, peer.read) == (401, 0)


@pytest.mark.parametrize("age_s", [400.0, 86400.0, -60.0])
def test_a_replayed_request_header_is_refused_after_its_window(age_s: float) -> None:
    assert ask(signed(age_s=age_s))[0] == 401
    assert ask(signed(age_s=200.0))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/health",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/pull-messages/",
        "//v1/fleet/pull-messages",
    ],
)
def test_no_other_path_answers_even_an_approved_node(path: str) -> None:
    status, peer, flower, _ = ask(signed(), path=path)
    assert (status, peer.read, flower.bodies) == (404, 0, [])
    assert path not in FLEET_PATHS


def test_nothing_but_post_is_taken() -> None:
    peer = Peer()
    assert asyncio.run(peer.ask(guarded(Flower())[0], PULL, signed(), method="GET")) == 404


def test_a_body_of_a_gigabyte_is_refused_unread() -> None:
    status, peer, _, heard = ask(signed(length=2**30), max_body_mib=64)
    assert (status, peer.read, heard) == (413, 0, [("size", "192.0.2.1")])


@pytest.mark.parametrize("length", [b"", b"-4", b"4.0", b"0x4", b"9" * 30])
def test_a_body_of_a_length_that_is_not_told_is_refused_unread(length: bytes) -> None:
    status, peer, _, _ = ask({**signed(), b"content-length": length})
    assert (status, peer.read) == (411, 0)


def test_a_body_longer_than_it_was_told_to_be_is_cut_off() -> None:
    status, peer, flower, _ = ask(signed(length=4), Peer([b"body", b"and", b"more"]))
    assert (status, peer.read, flower.bodies) == (413, 2, [])


def test_a_peer_that_sends_too_slowly_is_cut_off() -> None:
    status, _, flower, heard = ask(signed(), Peer(pause_s=5.0), body_seconds=0.05)
    assert (status, flower.bodies, heard) == (408, [], [("slow", "192.0.2.1")])


def test_a_node_confirms_its_message_to_the_guard_and_flower_deletes_nothing() -> None:
    status, peer, flower, heard = ask(signed(), path="/v1/fleet/confirm-message-received")
    assert (status, peer.answer, flower.bodies, heard) == (200, [(b"", False)], [], [])
    assert ConfirmMessageReceivedResponse.FromString(b"") == ConfirmMessageReceivedResponse()


def test_only_a_part_of_an_answer_may_be_large() -> None:
    for path in sorted(FLEET_PATHS - {PUSH}):
        status, peer, _, heard = ask(signed(length=64 * 1024 + 1), path=path)
        assert (status, peer.read, heard) == (413, 0, [("size", "192.0.2.1")]), path


def test_a_node_announces_answers_more_seldom_than_it_asks() -> None:
    """Each of them leaves rows in Flower's database, which lie there until the run is over."""
    guard, heard = guarded(Flower(), requests_per_second=0.01, burst=20)

    async def thrice() -> list[int]:
        return [await Peer([b"\xff"]).ask(guard, ANNOUNCE, signed(length=1)) for _ in range(3)]

    assert asyncio.run(thrice()) == [400, 400, 429]
    assert heard == [("form", "oak"), ("form", "oak"), ("rate", "oak")]


def test_a_connection_counts_for_the_node_that_proved_its_name() -> None:
    counted: list[str] = []

    def recognise(name: str) -> bool:
        counted.append(name)
        return len(counted) == 1

    guard, heard = guarded(Flower())

    async def both() -> list[int]:
        return [
            await Peer().ask(guard, PULL, one, recognise=recognise)
            for one in (signed(STRANGER), signed(), signed())
        ]

    assert asyncio.run(both()) == [401, 200, 429]
    assert (counted, heard[-1]) == (["oak", "oak"], ("crowd", "oak"))


def test_one_node_that_asks_too_often_is_told_to_wait() -> None:
    guard, heard = guarded(Flower(), requests_per_second=0.1, burst=2)

    async def thrice() -> list[int]:
        return [await Peer().ask(guard, PULL, signed()) for _ in range(3)]

    assert asyncio.run(thrice()) == [200, 200, 429]
    assert heard == [("rate", "oak")]


def test_strangers_take_nothing_of_a_nodes_share() -> None:
    guard, _ = guarded(Flower(), requests_per_second=0.1, burst=1)

    async def both() -> list[int]:
        forged = {**signed(STRANGER), PUBLIC_KEY: b64encode(pem(KEY))}
        return [await Peer().ask(guard, PULL, one) for one in (forged, forged, signed())]

    assert asyncio.run(both()) == [401, 401, 200]


def test_a_node_has_one_large_body_in_memory_at_a_time() -> None:
    """The next one waits, as a quick node's does; a third is refused."""

    async def three() -> tuple[int, int, list[int]]:
        release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flower = Flower(hold=lambda: release)
        guard, _ = guarded(flower)
        body, headers = b"x" * MIB, signed(length=MIB)
        both = [asyncio.create_task(Peer([body]).ask(guard, PUSH, headers)) for _ in range(2)]
        await asyncio.sleep(0.01)
        third, looked_at = await Peer([body]).ask(guard, PUSH, headers), len(flower.bodies)
        release.set_result(None)
        return third, looked_at, list(await asyncio.gather(*both))

    assert asyncio.run(three()) == (429, 1, [200, 200])


@pytest.mark.parametrize("size", [0, 64 * 1024, 64 * 1024 + 1, MIB])
def test_a_large_answer_goes_out_in_small_pieces(size: int) -> None:
    answer = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def flower(scope, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    peer = Peer()
    asyncio.run(peer.ask(FleetGuard(flower, NAMES.get, Limits()), PULL, signed()))
    assert b"".join(piece for piece, _ in peer.answer) == answer
    assert all(len(piece) <= 64 * 1024 for piece, _ in peer.answer)
    assert [more for _, more in peer.answer] == [True] * (len(peer.answer) - 1) + [False]


def test_a_rate_is_kept_in_the_long_run_and_saves_up_a_burst() -> None:
    limit = RateLimit(per_second=2.0, burst=3.0)
    taken = [now for now in range(10) for _ in range(10) if limit.takes("oak", float(now))]
    assert taken == [0, 0, 0] + [now for now in range(1, 10) for _ in range(2)]
    assert limit.takes("elm", 0.0)


def control(path: str, headers: dict[bytes, bytes]) -> tuple[int, Flower]:
    flower = Flower()
    return asyncio.run(Peer().ask(ControlGuard(flower, "secret"), path, headers)), flower


def test_control_on_loopback_wants_the_secret() -> None:
    name = CONTROL_HEADER.encode()
    assert control("/v1/control/start-run", {})[0] == 403
    assert control("/v1/control/start-run", {name: b"guess"})[0] == 403
    assert control("/v1/control/start-run", {name: b"secret"})[0] == 200


@pytest.mark.parametrize("path", ["/docs", "/health", PULL, "/v1/fleet/register-node", "/v1/join"])
def test_loopback_has_no_fleet_and_no_pages(path: str) -> None:
    status, flower = control(path, {CONTROL_HEADER.encode(): b"secret"})
    assert (status, flower.bodies) == (404, [])


def test_flowers_runtime_has_secrets_of_its_own() -> None:
    assert control("/v1/runtime/acquire-task", {})[0] == 200
