"""What a node may announce as an answer: one message of its own to the SuperLink, and no more."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from google.protobuf.message import Message as Request
from tests.hosted import Keys, approve, hosted, make_coordinator

from cloister_client.fleet.link import FleetLink
from cloister_server.announcements import flaw
from cloister_server.guard import FLEET_PATHS
from cloister_server.home import CoordinatorHome
from cloister_server.superlink import Control
from cloister_shared.messages import MOST_PARTS

OAK, ELM = Keys(), Keys()
OAK_ID, ELM_ID = 7, 8


def identifier(number: int) -> str:
    return hashlib.sha256(bytes([number])).hexdigest()


def honest(parts: int = 3) -> PushMessagesRequest:
    """What oak announces."""
    children = [ObjectTree(object_id=identifier(one)) for one in range(1, parts)]
    message = Message()
    message.metadata.run_id = 5
    message.metadata.message_id = identifier(0)
    message.metadata.src_node_id = OAK_ID
    message.metadata.dst_node_id = SUPERLINK_NODE_ID
    message.metadata.reply_to_message_id = identifier(200)
    return PushMessagesRequest(
        node=Node(node_id=OAK_ID),
        messages_list=[message],
        message_object_trees=[ObjectTree(object_id=identifier(0), children=children)],
        clientapp_runtime_list=[0.0],
    )


def to_another_node(request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.dst_node_id = ELM_ID


def in_anothers_name(request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.src_node_id = ELM_ID


def in_the_superlinks_name(request: PushMessagesRequest) -> None:
    """As a request to another node: Flower would give it out."""
    metadata = request.messages_list[0].metadata
    metadata.src_node_id, metadata.dst_node_id = SUPERLINK_NODE_ID, ELM_ID
    metadata.reply_to_message_id = ""


def unasked(request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.reply_to_message_id = ""


def of_no_run(request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.run_id = 0


def twice(request: PushMessagesRequest) -> None:
    request.messages_list.append(request.messages_list[0])


def with_two_trees(request: PushMessagesRequest) -> None:
    request.message_object_trees.append(request.message_object_trees[0])


def of_nothing(request: PushMessagesRequest) -> None:
    del request.messages_list[:]


def of_too_many_parts(request: PushMessagesRequest) -> None:
    request.message_object_trees[0].CopyFrom(honest(MOST_PARTS + 1).message_object_trees[0])


def of_a_deep_tree(request: PushMessagesRequest) -> None:
    tree = request.message_object_trees[0]
    for number in range(1, MOST_PARTS + 2):
        tree = tree.children.add(object_id=identifier(number))


def with_another_tree(request: PushMessagesRequest) -> None:
    """Announced again and again, each time with new parts."""
    request.message_object_trees[0].object_id = identifier(99)


def with_a_part_of_no_name(request: PushMessagesRequest) -> None:
    request.message_object_trees[0].children.add(object_id="../superlink.sqlite")


def of_endless_work(request: PushMessagesRequest) -> None:
    request.clientapp_runtime_list[0] = float("nan")


MISDEEDS: list[tuple[Callable[[PushMessagesRequest], None], str]] = [
    (to_another_node, "destination"),
    (in_anothers_name, "source"),
    (in_the_superlinks_name, "source"),
    (unasked, "unasked"),
    (of_no_run, "run"),
    (twice, "count"),
    (with_two_trees, "count"),
    (of_nothing, "count"),
    (of_too_many_parts, "parts"),
    (of_a_deep_tree, "parts"),
    (with_another_tree, "parts"),
    (with_a_part_of_no_name, "parts"),
    (of_endless_work, "form"),
]


def named(misdeed: tuple[Callable[[PushMessagesRequest], None], str]) -> str:
    return misdeed[0].__name__ if callable(misdeed[0]) else ""


def test_an_honest_announcement_has_no_flaw() -> None:
    assert flaw(honest().SerializeToString()) is None
    assert flaw(honest(MOST_PARTS).SerializeToString()) is None


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=named)
def test_what_is_no_announcement_of_ones_own_answer_has_a_flaw(
    misdeed: tuple[Callable[[PushMessagesRequest], None], str],
) -> None:
    change, word = misdeed
    request = honest()
    change(request)
    assert flaw(request.SerializeToString()) == word


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff\xff", b"{}"])
def test_what_is_no_request_has_a_flaw(body: bytes) -> None:
    assert flaw(body) == "form"


# Over the wire, to a SuperLink that is up.


@dataclass
class Up:
    """A link that is up, what its guard refused, and the ids of its nodes."""

    home: CoordinatorHome
    heard: list[tuple[str, str]]
    ids: dict[bytes, int]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = make_coordinator(tmp_path_factory.mktemp("coordinator") / "home")
    approve(home, "oak", OAK)
    approve(home, "elm", ELM)
    with hosted(home) as heard, closing(Control(home)) as control:
        yield Up(home, heard, control.nodes())


@pytest.fixture
def oak(up: Up) -> Iterator[FleetLink]:
    address, authority = f"127.0.0.1:{up.home.config.port}", up.home.authority_pem().encode()
    memory = up.home.path.parent / "oak"
    with closing(FleetLink(address, authority, OAK.transport, memory, max_bytes=2**20)) as link:
        link.connect()
        yield link


def refusal(call: Callable[[], object]) -> int:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        call()
    return refused.value.response.status_code


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=named)
def test_a_node_that_announces_what_it_should_not_is_refused_by_name(
    up: Up, oak: FleetLink, misdeed: tuple[Callable[[PushMessagesRequest], None], str]
) -> None:
    change, word = misdeed
    request = honest()
    request.node.node_id = request.messages_list[0].metadata.src_node_id = oak.node_id
    change(request)
    assert refusal(lambda: oak._client.PushMessages(request)) == 400
    assert up.heard[-1] == (word, "oak")


def of_another(kind: type[Request], node: int, key: bytes) -> Request:
    """A request of this kind that names another node."""
    request = kind()
    if hasattr(request, "node"):
        request.node.node_id = node
    elif hasattr(request, "public_key"):
        request.public_key = key
    else:
        request.node_id = node
    if isinstance(request, PushMessagesRequest):
        request.MergeFrom(honest())
        request.node.node_id = request.messages_list[0].metadata.src_node_id = node
    return request


CONFIRM = "/v1/fleet/confirm-message-received"
"""Never reaches Flower."""


@pytest.mark.parametrize("path", sorted(FLEET_PATHS - {CONFIRM}))
def test_flower_refuses_every_request_that_names_another_node(
    up: Up, oak: FleetLink, path: str
) -> None:
    """What the guard leaves to Flower: a node acts for itself alone, whatever it asks."""
    request = of_another(PROTOBUF_REQUEST_TYPES["POST", path], up.ids[ELM.pem], ELM.pem)
    asked = httpx.Request(
        "POST",
        f"https://127.0.0.1:{up.home.config.port}{path}",
        content=request.SerializeToString(),
        headers={"content-type": "application/protobuf"},
    )
    oak._time._sign(asked)
    assert oak._client._client.send(asked).status_code == 401
