"""A reply's parts: what is large has our one form, and what is no message is nobody's reply."""

from collections.abc import Callable

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.proto.recorddict_pb2 import ConfigRecord as ProtoRecord
from flwr.proto.recorddict_pb2 import ConfigRecordValue
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
)

from cloister_server.reply_form import MOST_LIGHT_BYTES, error_message, holds_body, inflated
from cloister_shared.messages import BODY_KEY, RECORD_KEY

pytestmark = pytest.mark.usefixtures("flower_task")

PARTS: list[Callable[[], bytes]] = [
    lambda: b"",
    lambda: b"garbage",
    lambda: ConfigRecord({"a": 1}).deflate(),
    lambda: RecordDict({}).deflate(),
]
SIZES = [0, 1, 2**7 - 20, 2**7, 2**14 - 10, 2**14, 2**21 - 10, 2**21]
"""Around those at which a length is written in one byte more."""


def reply(record: ConfigRecord) -> tuple[str, dict[str, bytes]]:
    """The id and the parts of a reply with this content."""
    message = Message(RecordDict({RECORD_KEY: record}), 7, "train")
    objects = get_all_nested_objects(message)
    return message.object_id, {name: one.deflate() for name, one in objects.items()}


def record_of(body: bytes) -> bytes:
    """A part with these bytes in place of a record's."""
    return add_header_to_object_body(body, ConfigRecord({}))


@pytest.mark.parametrize("part", PARTS)
def test_what_is_no_message_is_nobodys_reply(part: Callable[[], bytes]) -> None:
    assert inflated("one", {"one": part()}) is None


def test_an_error_brings_nothing_else_along() -> None:
    """Not even metadata: Flower's reader raises where a message's type is not one."""
    error = error_message(8)
    assert error.has_error()
    assert not error.has_content()
    assert error.error.code == 8


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_reply_of_any_size_is_read(size: int) -> None:
    body = bytes(size)
    assert holds_body(ConfigRecord({BODY_KEY: body}).deflate())
    found = inflated(*reply(ConfigRecord({BODY_KEY: body})))
    assert found is not None
    assert found.content.config_records[RECORD_KEY] == {BODY_KEY: body}


def items(count: int) -> bytes:
    """So many tiny items."""
    value = ConfigRecordValue(sint64=0)
    one = [ProtoRecord.Item(key=f"{number:06x}", value=value) for number in range(count)]
    return record_of(ProtoRecord(items=one).SerializeToString())


def test_a_reply_of_many_tiny_items_is_not_read() -> None:
    """Flower would make an object of each."""
    identifier, parts = reply(ConfigRecord({BODY_KEY: b"x"}))
    (name,) = [name for name, part in parts.items() if holds_body(part)]
    parts[name] = items(10_000)
    assert len(parts[name]) > MOST_LIGHT_BYTES
    assert inflated(identifier, parts) is None


LARGE = b"x" * (MOST_LIGHT_BYTES + 1)
ITEM = ProtoRecord.Item(key=BODY_KEY, value=ConfigRecordValue(bytes=LARGE))
RECORD = ProtoRecord(items=[ITEM]).SerializeToString()

OTHERS: list[Callable[[], bytes]] = [
    lambda: ConfigRecord({"other": LARGE}).deflate(),
    lambda: ConfigRecord({BODY_KEY: LARGE, "more": 1}).deflate(),
    lambda: ConfigRecord({BODY_KEY: [LARGE]}).deflate(),
    lambda: ConfigRecord({BODY_KEY: "x" * len(LARGE)}).deflate(),
    lambda: ConfigRecord({BODY_KEY: [1] * len(LARGE)}).deflate(),
    lambda: MetricRecord({BODY_KEY: [1] * len(LARGE)}).deflate(),
    lambda: RecordDict({str(one): ConfigRecord({}) for one in range(2000)}).deflate(),
    lambda: ArrayRecord({}).deflate() + LARGE,
    lambda: record_of(RECORD + RECORD),
    lambda: record_of(RECORD + b"\x0a\x00"),
    lambda: record_of(RECORD[:-1]),
    lambda: record_of(b"\x0a\x00" * len(LARGE)),
    lambda: items(10_000),
]


@pytest.mark.parametrize("part", OTHERS)
def test_nothing_else_that_is_large_holds_a_body(part: Callable[[], bytes]) -> None:
    assert len(part()) > MOST_LIGHT_BYTES
    assert not holds_body(part())


def test_an_error_of_a_node_is_small_enough_to_be_told() -> None:
    error = Error(1, "the node's own log says why")
    assert len(Message(error, reply_to=received()).deflate()) < 1000


def received() -> Message:
    """A message as a node has it."""
    message = Message(RecordDict({}), 7, "train")
    message.metadata.__dict__["_message_id"] = "asked"
    return message
