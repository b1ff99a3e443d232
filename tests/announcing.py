"""A node's side of Flower's fleet interface, for nodes that do not play along."""

import time

from flwr.app import ConfigRecord, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_object_tree, no_object_id_recompute

from cloister_client.fleet.link import Envelope, FleetLink, _named_errors

MESSAGE_S = 60.0


def next_message(link: FleetLink, seconds: float = MESSAGE_S) -> Envelope:
    """The next message for the node."""
    end = time.monotonic() + seconds
    while (envelope := link.pull()) is None:
        assert time.monotonic() < end, "no message came"
        time.sleep(0.02)
    return envelope


def announced(
    link: FleetLink, envelope: Envelope, tree: ObjectTree | None = None, **changes: float
) -> None:
    """Announce an answer and send none of its parts; ``changes`` are of its metadata."""
    content = RecordDict({"cloister": ConfigRecord({"body": b"held back"})})
    message = make_message(link._answering(envelope), content, None)
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        proto = message_to_proto(remove_content_from_message(message))
        tree = tree or get_object_tree(message)
    for name, value in changes.items():
        setattr(proto.metadata, name, value)
    proto.metadata.message_id = tree.object_id
    request = PushMessagesRequest(
        node=link._node, messages_list=[proto], message_object_trees=[tree]
    )
    with _named_errors():
        link._client.PushMessages(request)
