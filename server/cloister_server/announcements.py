"""An answer that a node announces, looked at before Flower sees it.

Flower checks that a request is of the node that it names, and that an answer fits a message that
was asked. It does not check that the two are of the same node, nor that it is an answer at all: one
that answers nothing, in the SuperLink's name, would be given to any node as a request.
"""

import math
import re

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, ObjectTree
from google.protobuf.message import DecodeError

from cloister_shared.messages import MOST_PARTS

_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)


def flaw(body: bytes) -> str | None:
    """What is wrong with a request that announces an answer, in a word; ``None`` if nothing is."""
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return "form"
    if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
        return "count"
    if not _are_runtimes(list(request.clientapp_runtime_list)):
        return "form"
    (message,), (tree,) = request.messages_list, request.message_object_trees
    return _flaw_of_message(message, request.node.node_id) or _flaw_of_parts(message, tree)


def _flaw_of_message(message: Message, node: int) -> str | None:
    metadata = message.metadata
    if metadata.src_node_id != node:
        return "source"
    if metadata.dst_node_id != SUPERLINK_NODE_ID:
        return "destination"
    if not metadata.reply_to_message_id:
        return "unasked"
    if not (math.isfinite(metadata.created_at) and math.isfinite(metadata.ttl)):
        return "time"  # its database would keep nothing in their place, and stumble over that
    return None if metadata.run_id else "run"


def _flaw_of_parts(message: Message, tree: ObjectTree) -> str | None:
    """One answer has one tree: Flower holds a part's children for its own once and for all."""
    if message.metadata.message_id != tree.object_id:
        return "parts"
    found, left = 0, [tree]
    while left:
        part = left.pop()
        found += 1
        if found > MOST_PARTS or not _IDENTIFIER.fullmatch(part.object_id):
            return "parts"
        left.extend(part.children)
    return None


def _are_runtimes(seconds: list[float]) -> bool:
    """Whether Flower can add these up."""
    return len(seconds) <= 1 and all(0 <= one < math.inf for one in seconds)
