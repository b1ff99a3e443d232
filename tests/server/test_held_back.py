"""An approved node that does not play along, over a link that is up: no other answer is late."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.superlink.grid import http_grid
from tests.announcing import announced, next_message
from tests.hosted import Keys, hosted_with, running

from cloister_client.fleet.link import Envelope, FleetLink
from cloister_client.fleet.messages import LostError
from cloister_server import grid, round_trip
from cloister_server.grid import QuickGrid, Task
from cloister_server.home import CoordinatorHome

OAK, ELM = Keys(), Keys()
TIME_S, SOON_S = 60.0, 25.0
"""The time that nodes have, and far less: long enough for a machine that has other work."""


@dataclass
class Up:
    """A link that is up, a run over it, and two nodes; oak means ill."""

    task: Task
    oak: FleetLink
    elm: FleetLink

    @property
    def grid(self) -> QuickGrid:
        return self.task.grid

    def ask(self, *links: FleetLink, seconds: float = TIME_S) -> Iterator[Message]:
        """Ask these nodes in this order."""
        content = RecordDict({"cloister": ConfigRecord({"body": b"question"})})
        asked = [Message(content, link.node_id, "train.round", ttl=seconds) for link in links]
        return self.grid.send_and_receive(asked, timeout=seconds)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    with hosted_with(tmp_path_factory.mktemp("coordinator"), oak=OAK, elm=ELM) as home:
        yield home


@pytest.fixture
def up(home: CoordinatorHome) -> Iterator[Up]:
    with running(home) as (_, task):
        links = [connected(home, name, keys) for name, keys in (("oak", OAK), ("elm", ELM))]
        yield Up(task, *links)
    for link in links:
        link.close()


def connected(home: CoordinatorHome, name: str, keys: Keys) -> FleetLink:
    address, authority = f"127.0.0.1:{home.config.port}", home.authority_pem().encode()
    memory: Path = home.path.parent / name
    link = FleetLink(address, authority, keys.transport, memory, max_bytes=2**20)
    link.connect()
    return link


def answered_by(link: FleetLink, body: bytes) -> Envelope:
    """The message that waits for a node, answered as it should be."""
    envelope = next_message(link)
    link.open(envelope)
    link.reply(envelope, body)
    return envelope


def body_of(message: Message) -> bytes:
    return bytes(message.content.config_records["cloister"]["body"])


@contextmanager
def asking(up: Up, *links: FleetLink, seconds: float = TIME_S) -> Iterator["Future[list[bytes]]"]:
    """Ask these nodes, in this order, until the first has answered; what it said."""
    replies = up.ask(*links, seconds=seconds)
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(lambda: [body_of(one) for one in islice(replies, 1)])


def test_a_reply_that_is_announced_and_held_back_makes_no_other_late(up: Up) -> None:
    with asking(up, up.oak, up.elm) as first:
        announced(up.oak, next_message(up.oak))
        time.sleep(0.5)
        answered_by(up.elm, b"elm's")
        assert first.result(SOON_S) == [b"elm's"]


def confirm(link: FleetLink, envelope: Envelope) -> None:
    """Say that a message was received: Flower would delete it, and content that nobody else has."""
    link._client.ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(
            node=link._node,
            run_id=envelope.run,
            message_object_id=envelope.metadata.message_id,
        )
    )


def test_a_node_that_confirms_its_message_cannot_name_the_content_of_others_as_its_own(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower would keep that content with other parts, and fail over whoever is asked anew."""
    monkeypatch.setattr(round_trip, "RESEND_S", 0.5)
    monkeypatch.setattr(up.grid, "slowest_s", 0.01)
    with asking(up, up.oak, up.elm) as first:
        mine, theirs = next_message(up.oak), next_message(up.elm)
        for link, envelope in ((up.oak, mine), (up.elm, theirs)):
            confirm(link, envelope)
        content = ObjectTree(object_id=mine.parts.children[0].object_id)
        tree = ObjectTree(object_id="ab" * 32, children=[content])
        with pytest.raises(httpx.HTTPStatusError):
            announced(up.oak, mine, tree=tree)
        answered_by(up.elm, b"elm's, asked anew")
        assert first.result(SOON_S) == [b"elm's, asked anew"]


def test_a_message_that_flower_fails_over_makes_no_other_late(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "_PUSH_FAILS_S", 0.1)
    push = up.grid._try_push_messages

    def fail_oaks(run: int, messages: list[Message]) -> list[str]:
        if messages[0].metadata.dst_node_id != up.oak.node_id:
            return push(run, messages)
        request = httpx.Request("POST", "http://flower")
        response = httpx.Response(500, request=request)
        raise httpx.HTTPStatusError("500", request=request, response=response)

    monkeypatch.setattr(up.grid, "_try_push_messages", fail_oaks)
    with asking(up, up.oak, up.elm) as first:
        answered_by(up.elm, b"elm's")
        assert first.result(SOON_S) == [b"elm's"]


def test_a_node_that_withdraws_what_it_is_sent_harms_nobody_but_itself(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower announces a message before it has its parts, and refuses them if it is withdrawn."""
    push, seen = http_grid.push_objects, []

    def withdraw_first(*given: Any, **options: Any) -> None:
        if not seen:
            seen.append(next_message(up.oak))
            confirm(up.oak, seen[0])
        push(*given, **options)

    monkeypatch.setattr(http_grid, "push_objects", withdraw_first)
    with asking(up, up.oak, up.elm) as first:
        answered_by(up.elm, b"elm's")
        assert first.result(SOON_S) == [b"elm's"]


def test_a_node_that_names_the_parts_of_what_it_is_sent_harms_nobody_but_itself(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower ends the session in which the same root is being pushed."""
    push, seen = http_grid.push_objects, []

    def name_first(*given: Any, **options: Any) -> None:
        if not seen:
            seen.append(next_message(up.oak))
            announced(up.oak, seen[0], tree=seen[0].parts)
        push(*given, **options)

    monkeypatch.setattr(http_grid, "push_objects", name_first)
    with asking(up, up.oak, up.elm) as first:
        answered_by(up.elm, b"elm's")
        assert first.result(SOON_S) == [b"elm's"]


@pytest.mark.parametrize("field", ["created_at", "ttl"])
def test_an_answer_that_was_made_at_no_time_makes_no_other_late(up: Up, field: str) -> None:
    with asking(up, up.oak, up.elm) as first:
        with suppress(LostError):
            announced(up.oak, next_message(up.oak), **{field: math.nan})
        answered_by(up.elm, b"elm's")
        assert first.result(SOON_S) == [b"elm's"]
