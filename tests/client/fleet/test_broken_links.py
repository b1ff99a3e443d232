"""A node's link over a line that is slow, and to a coordinator that answers anything, in memory."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Metadata
from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import (
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from google.protobuf.message import Message as Proto
from tests.hosted import make_coordinator

from cloister_client.fleet.link import Envelope, FleetLink
from cloister_client.fleet.messages import LostError, Question
from cloister_shared.messages import MOST_PARTS

MAX_BYTES = 4 * 2**20
ANSWER_S = 60.0
Answer = Callable[[bytes], Proto | int]


@dataclass
class Coordinator:
    """Answers by the paths' last names: messages, or statuses of HTTP."""

    answers: dict[str, Answer] = field(default_factory=dict)
    late_s: float = 0.0
    """By how much the node's clock, and this one's, went on."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.late_s)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers[request.url.path.rpartition("/")[2]](request.content)
        is_status = isinstance(answer, int)
        status, content = (answer, b"") if is_status else (200, answer.SerializeToString())
        length = {"content-length": str(len(content))}
        return httpx.Response(status, headers=length, content=content)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = make_coordinator(tmp_path_factory.mktemp("coordinator") / "home")
    return home.authority_pem().encode()


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator({"push-messages": wants_all})


@pytest.fixture
def link(coordinator: Coordinator, authority: bytes, tmp_path: Path) -> FleetLink:
    key = ec.generate_private_key(ec.SECP384R1())
    given = (authority, key, tmp_path / "id")
    link = FleetLink("coordinator:443", *given, max_bytes=MAX_BYTES, clock=coordinator.now)
    link._client._client._transport = httpx.MockTransport(coordinator)
    return link


def wants_all(body: bytes) -> PushMessagesResponse:
    """The answer to an announcement."""
    [tree] = PushMessagesRequest.FromString(body).message_object_trees
    parts = [part.object_id for part in iterate_object_tree(tree)]
    return PushMessagesResponse(objects_to_push=parts, session_id="session")


def envelope(tree: ObjectTree | None = None) -> Envelope:
    now = time.time()
    return Envelope(
        Metadata(5, "a" * 64, 1, 2, "", "1", now, ANSWER_S, "train.round"), tree or ObjectTree()
    )


def test_an_answer_that_the_line_is_too_slow_for_is_given_up_when_its_time_is_over(
    link: FleetLink, coordinator: Coordinator
) -> None:
    coordinator.answers["push-object"] = lambda body: 408
    asked = envelope()
    for _ in range(3):
        with pytest.raises(httpx.HTTPStatusError):
            link.reply(asked, b"answer")
    coordinator.late_s = ANSWER_S
    with pytest.raises(LostError, match="over"):
        link.reply(asked, b"answer")


def test_a_message_that_the_line_is_too_slow_for_is_given_up_when_its_time_is_over(
    link: FleetLink, coordinator: Coordinator
) -> None:
    coordinator.answers["pull-object"] = lambda body: 408
    asked = envelope()
    with pytest.raises(httpx.HTTPStatusError):
        link.open(asked)
    coordinator.late_s = ANSWER_S
    with pytest.raises(LostError, match="over"):
        link.open(asked)


def test_a_message_of_no_time_at_all_is_given_up(link: FleetLink) -> None:
    asked = envelope()
    asked.metadata.__dict__["_created_at"] = float("nan")
    with pytest.raises(LostError, match="over"):
        link.reply(asked, b"answer")


def test_an_answer_that_the_coordinator_did_not_keep_is_lost(
    link: FleetLink, coordinator: Coordinator
) -> None:
    asked = envelope()
    coordinator.answers["push-object"] = lambda body: 408
    with pytest.raises(httpx.HTTPStatusError):
        link.reply(asked, b"answer")
    coordinator.answers["push-object"] = lambda body: PushObjectResponse(stored=False)
    with pytest.raises(LostError, match="keep"):
        link.reply(asked, b"answer")


def test_a_part_that_arrived_though_its_line_broke_is_not_lost(
    link: FleetLink, coordinator: Coordinator
) -> None:
    kept: list[str] = []

    def keep(body: bytes) -> PushObjectResponse:
        part = PushObjectRequest.FromString(body).object_id
        if part in kept:
            return PushObjectResponse(stored=False)
        kept.append(part)
        if len(kept) == 2:
            raise httpx.RemoteProtocolError("the line broke")
        return PushObjectResponse(stored=True)

    coordinator.answers["push-object"] = keep
    asked = envelope()
    with pytest.raises(httpx.RemoteProtocolError):
        link.reply(asked, b"answer")
    link.reply(asked, b"answer")
    assert len(kept) == 3


def test_of_a_tree_of_many_parts_no_more_than_a_few_are_looked_at(
    link: FleetLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[ObjectTree] = []

    def looking(tree: ObjectTree):
        for part in iterate_object_tree(tree):
            looked.append(part)
            yield part

    monkeypatch.setattr("cloister_client.fleet.link.iterate_object_tree", looking)
    many = ObjectTree(children=[ObjectTree() for _ in range(1000)])
    with pytest.raises(LostError, match="parts"):
        link.open(envelope(many))
    assert len(looked) == MOST_PARTS + 1


def test_only_parts_of_messages_may_be_long(link: FleetLink, coordinator: Coordinator) -> None:
    long = ObjectTree(object_id="x" * 2**20)
    coordinator.answers |= {
        "pull-messages": lambda body: PullMessagesResponse(message_object_trees=[long]),
        "pull-object": lambda body: PullObjectResponse(
            object_found=True, object_available=True, object_content=bytes(2**20)
        ),
    }
    with pytest.raises(LostError, match="bytes"):
        link.pull()
    assert len(link._client.PullObject(PullObjectRequest()).object_content) == 2**20


def test_a_record_of_many_items_is_not_taken_apart(
    link: FleetLink, coordinator: Coordinator
) -> None:
    items = ConfigRecord({f"{one:x}": b"" for one in range(50_000)}).deflate()
    coordinator.answers |= {
        "pull-object": lambda body: PullObjectResponse(
            object_found=True, object_available=True, object_content=items
        ),
        "confirm-message-received": lambda body: ObjectTree(),
    }
    tracemalloc.start()
    try:
        question = link.open(envelope())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert question == Question(b"")
    assert most < 8 * len(items)


def test_a_record_of_another_form_asks_nothing(link: FleetLink, coordinator: Coordinator) -> None:
    coordinator.answers |= {
        "pull-object": lambda body: PullObjectResponse(
            object_found=True, object_available=True, object_content=b"ConfigRecord  9\x00\xff"
        ),
        "confirm-message-received": lambda body: ObjectTree(),
    }
    assert link.open(envelope()) == Question(b"")


def test_heartbeats_go_on_whatever_one_of_them_met(
    link: FleetLink, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(body: bytes) -> int:
        raise OverflowError("an answer that nobody thought of")

    coordinator.answers["send-node-heartbeat"] = fails
    link._node.node_id = 7
    turns = iter((False, False, True))
    link.beat(lambda seconds: next(turns))
    assert caplog.text.count("the node failed: ") == 2
