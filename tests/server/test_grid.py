"""What a node may send in place of a reply; whole rounds are in tests/client/fleet/test_link.py."""

from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree

from cloister_server.grid import _MOST_PARTS, QuickGrid, _error, _inflated

PARTS: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"garbage",
    lambda: ConfigRecord({"a": 1}).deflate(),
    lambda: RecordDict({}).deflate(),
]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_no_message_is_nobodys_reply(part: Callable[[], bytes]) -> None:
    assert _inflated("one", {"one": part()}) is None


def test_a_reply_in_endless_parts_is_refused_before_more_are_taken() -> None:
    taken: list[str] = []

    class Counting(QuickGrid):
        def __init__(self) -> None:
            """Of nothing but the parts that are asked for."""

        def _part(self, identifier: str, end: float) -> bytes | None:
            taken.append(identifier)
            return b"part"

    children = [ObjectTree(object_id=str(one)) for one in range(200)]
    tree = ObjectTree(object_id="top", children=children)
    reply = Counting().fetch(ProtoMessage(metadata=Metadata(message_id="top")), tree, 0.0)
    assert reply is not None
    assert reply.has_error()
    assert len(taken) == _MOST_PARTS


def test_an_error_brings_nothing_else_along() -> None:
    """Not even metadata: Flower's reader raises where a message's type is not one."""
    error = _error(8)
    assert error.has_error()
    assert not error.has_content()
    assert error.error.code == 8
