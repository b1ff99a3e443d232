"""The bell: looks are held until there is something, and nothing depends on its ring."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata
from flwr.proto.node_pb2 import Node
from google.protobuf.message import DecodeError

from cloister_server.bell import Bell, BellRoute, HeldLooks
from cloister_server.guard import BELL

NEVER_S, SOON_S, AT_ONCE_S = 60.0, 30.0, 0.01
PULL, ANNOUNCE, PART = (
    f"/v1/fleet/{one}" for one in ("pull-messages", "push-messages", "push-object")
)

Found = TypeVar("Found")


@dataclass
class Flower:
    """Stands where the SuperLink does: gives each node what there is for it, once."""

    there: dict[int, list[str]] = field(default_factory=dict)
    looks: int = 0
    status: int = 200

    async def __call__(self, scope, receive, send) -> None:
        body = (await receive())["body"]
        answer = b"as ever"
        if scope["path"] == PULL:
            self.looks += 1
            answer = self._found(body)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    def _found(self, body: bytes) -> bytes:
        try:
            node = PullMessagesRequest.FromString(body).node.node_id
        except DecodeError:
            self.status = 400
            return b"refused"
        found = [self.there[node].pop(0)] if self.there.get(node) else []
        messages = [ProtoMessage(metadata=Metadata(message_id=one)) for one in found]
        return PullMessagesResponse(messages_list=messages).SerializeToString()


def link(flower: Flower, bell: Bell, hold_s: float = NEVER_S) -> httpx.AsyncClient:
    held = HeldLooks(BellRoute(flower, bell), bell, hold_s)
    return httpx.AsyncClient(transport=httpx.ASGITransport(held), base_url="http://link")


def in_time(what: Callable[[], Coroutine[object, object, Found]]) -> Found:
    return asyncio.run(asyncio.wait_for(what(), SOON_S))


async def look(client: httpx.AsyncClient, node: int) -> list[str]:
    request = PullMessagesRequest(node=Node(node_id=node)).SerializeToString()
    answer = (await client.post(PULL, content=request)).raise_for_status()
    found = PullMessagesResponse.FromString(answer.content).messages_list
    return [one.metadata.message_id for one in found]


async def raw_look(held: HeldLooks, node: int, hung_up: asyncio.Event) -> None:
    """A look by a peer that hangs up."""
    body = PullMessagesRequest(node=Node(node_id=node)).SerializeToString()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": PULL, "headers": []}
    await held(scope, receive, send)


async def held(flower: Flower, one: Awaitable[Found]) -> "asyncio.Task[Found]":
    """The look, begun: Flower has said that there is nothing."""
    task, before = asyncio.ensure_future(one), flower.looks
    while flower.looks == before:
        await asyncio.sleep(0)
    return task


async def wait_for_answers(client: httpx.AsyncClient, known: int, within_s: float) -> int:
    asked = {"known": known, "within": within_s}
    return int((await client.get(BELL, params=asked)).text)


def test_what_is_there_is_given_at_once() -> None:
    flower = Flower({7: ["m"]})

    async def act() -> list[str]:
        return await look(link(flower, Bell()), 7)

    assert in_time(act) == ["m"]
    assert flower.looks == 1


def test_a_look_is_held_until_there_is_a_message() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> list[str]:
        client = link(flower, bell)
        looking = await held(flower, look(client, 7))
        flower.there[7] = ["m"]
        await client.post(BELL, content="7")
        return await looking

    assert in_time(act) == ["m"]
    assert flower.looks == 2


def test_a_ring_for_another_node_wakes_nobody() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> tuple[bool, int]:
        client = link(flower, bell)
        looking = await held(flower, look(client, 7))
        await client.post(BELL, content="8")
        await asyncio.sleep(0.05)
        woken = looking.done()
        bell.ring(7)
        bell.ring(7)
        looking.cancel()
        return woken, flower.looks

    assert in_time(act) == (False, 1)


def test_a_ring_in_vain_lets_the_look_go_on() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> list[str]:
        client = link(flower, bell)
        looking = await held(flower, look(client, 7))
        looks = flower.looks
        bell.ring(7)
        while flower.looks == looks:
            await asyncio.sleep(0)
        flower.there[7] = ["m"]
        bell.ring(7)
        return await looking

    assert in_time(act) == ["m"]


def test_a_ring_between_the_look_and_the_wait_is_heard() -> None:
    """The message was stored after Flower had looked: the look goes back for it."""
    bell = Bell()

    class Late(Flower):
        async def __call__(self, scope, receive, send) -> None:
            await super().__call__(scope, receive, send)
            if self.looks == 1:
                self.there[7] = ["m"]
                bell.ring(7)

    async def act() -> list[str]:
        return await look(link(Late(), bell), 7)

    assert in_time(act) == ["m"]


def test_without_a_ring_a_look_ends_in_vain() -> None:
    async def act() -> list[str]:
        return await look(link(Flower(), Bell(), hold_s=AT_ONCE_S), 7)

    assert in_time(act) == []


def test_a_link_that_is_to_end_lets_everybody_go_and_holds_nobody() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> list[list[str]]:
        client = link(flower, bell)
        looking = await held(flower, look(client, 7))
        bell.close()
        return [await looking, await look(client, 8)]

    assert in_time(act) == [[], []]
    assert bell._waiting == {}


def test_a_refusal_is_not_held() -> None:
    async def act() -> int:
        request = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()
        return (await link(Flower(status=401), Bell()).post(PULL, content=request)).status_code

    assert in_time(act) == 401


def test_what_is_no_look_is_left_to_flower() -> None:
    async def act() -> bytes:
        return (await link(Flower(), Bell()).post(PULL, content=b"\xff\xff")).content

    assert in_time(act) == b"refused"


def test_a_look_that_is_given_up_leaves_nothing_behind() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> None:
        looking = await held(flower, look(link(flower, bell), 7))
        await asyncio.sleep(0.01)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    in_time(act)
    assert bell._waiting == {}


def test_a_message_is_not_given_to_a_node_that_has_gone() -> None:
    """Flower gives it out once: the node that comes back has to find it."""
    flower, bell = Flower(), Bell()

    async def act() -> list[str]:
        hung_up = asyncio.Event()
        looking = await held(flower, raw_look(HeldLooks(flower, bell, NEVER_S), 7, hung_up))
        hung_up.set()
        await looking
        flower.there[7] = ["m"]
        bell.ring(7)
        return flower.there[7]

    assert in_time(act) == ["m"]
    assert flower.looks == 1


def test_a_nodes_later_look_ends_its_earlier_one() -> None:
    """That of a connection that is dead, as the link does not know yet."""
    flower, bell = Flower(), Bell()

    async def act() -> tuple[list[str], list[str]]:
        client = link(flower, bell)
        earlier = await held(flower, look(client, 7))
        later = await held(flower, look(client, 7))
        await asyncio.sleep(0.05)
        flower.there[7] = ["m"]
        bell.ring(7)
        return await earlier, await later

    assert in_time(act) == ([], ["m"])


def test_nobody_ends_another_nodes_look() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> bool:
        looking = await held(flower, look(link(flower, bell), 7))
        flower.status = 401
        stranger = link(flower, bell)
        await stranger.post(
            PULL, content=PullMessagesRequest(node=Node(node_id=7)).SerializeToString()
        )
        await asyncio.sleep(0.01)
        ended = looking.done()
        looking.cancel()
        return ended

    assert in_time(act) is False


def test_the_runner_waits_for_what_nodes_send() -> None:
    flower, bell = Flower(), Bell()

    async def act() -> int:
        client = link(flower, bell)
        waiting = asyncio.ensure_future(wait_for_answers(client, 0, NEVER_S))
        await asyncio.sleep(0.01)
        await client.post(ANNOUNCE, content=b"a reply")
        known = await waiting
        waiting = asyncio.ensure_future(wait_for_answers(client, known, NEVER_S))
        await client.post(PART, content=b"a part")
        return await waiting

    assert in_time(act) == 2


def test_news_from_before_the_wait_count() -> None:
    async def act() -> int:
        client = link(Flower(), Bell())
        await client.post(PART, content=b"a part")
        return await wait_for_answers(client, 0, NEVER_S)

    assert in_time(act) == 1


def test_a_link_that_was_restarted_keeps_nobody_waiting() -> None:
    """The runner knows of more news than a new link has heard."""

    async def act() -> int:
        return await wait_for_answers(link(Flower(), Bell()), 41, NEVER_S)

    assert in_time(act) == 0


def test_nonsense_at_the_bell_is_refused() -> None:
    async def act() -> list[int]:
        client = link(Flower(), Bell())
        asked = [
            client.post(BELL, content=b"seven"),
            client.get(BELL),
            client.get(BELL, params={"known": "x", "within": 1}),
        ]
        return [(await one).status_code for one in asked]

    assert in_time(act) == [400, 400, 400]
