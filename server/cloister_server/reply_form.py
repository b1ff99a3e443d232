"""A reply from its parts, and the one form that its large part may have.

Flower reads whatever a node wrote: sixteen mebibytes of tiny items are millions of objects, and
keep the runner for a quarter of a minute. So what is large is looked at here before Flower sees it.
"""

import logging
from collections.abc import Collection
from typing import Final, cast

from flwr.app import Message, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.error_pb2 import Error as ProtoError
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from cloister_shared.messages import BODY_KEY
from cloister_shared.records import read_record

MOST_LIGHT_BYTES: Final = 64 * 1024
"""Of all parts of a reply together that do not hold a body: an honest one has some hundred."""

_LOG = logging.getLogger(__name__)


def inflated(identifier: str, parts: dict[str, bytes]) -> Message | None:
    """The message; ``None`` if that is not what a node sent, whatever it sent."""
    if not _are_ours(parts.values()):
        _LOG.warning("a reply has another form than ours")
        return None
    try:
        message = inflate_object_from_contents(identifier, parts)
        content = message.content if isinstance(message, Message) else None
    # A node chooses these bytes, and Flower's readers raise whatever they stumble over.
    except Exception as error:
        _LOG.warning("a reply cannot be read: %s", type(error).__name__)
        return None
    return cast(Message, message) if isinstance(content, RecordDict) else None


def error_message(code: int) -> Message:
    """An error in place of a reply, with nothing of what came with it: a node chose that."""
    metadata = ProtoMetadata(message_type="query")
    return message_from_proto(ProtoMessage(metadata=metadata, error=ProtoError(code=code)))


def holds_body(part: bytes) -> bool:
    """Whether this is a record of Flower's with our body in it, and nothing else."""
    try:
        return read_record(part, most=1).keys() == {BODY_KEY}
    except ValueError:
        return False


def _are_ours(parts: Collection[bytes]) -> bool:
    light = sum(len(part) for part in parts if not holds_body(part))
    return light <= MOST_LIGHT_BYTES
