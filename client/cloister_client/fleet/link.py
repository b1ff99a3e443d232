"""A node's link to the coordinator: Flower's fleet interface over TLS, without Flower's SuperNode.

All use of Flower's unstable fleet internals is here and in ``connection.py``;
tests/client/fleet/test_link.py holds the contract. Calls raise ``httpx.HTTPError`` when the network
or the coordinator fails; whoever calls decides for how long to try again.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.error import Error
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.serde import message_to_proto, user_config_from_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.proto.transport_pb2 import Scalar
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from google.protobuf.message import DecodeError

from cloister_client.failures import log_failure
from cloister_client.fleet import connection
from cloister_client.fleet.clock import Clock, SignedTime, system_clock
from cloister_client.fleet.messages import Bundle, LostError, Question, ShutOutError
from cloister_shared.durable import write_atomically
from cloister_shared.messages import (
    BODY_KEY,
    MOST_PARTS,
    RECEIPTS_KEY,
    RECORD_KEY,
    SIGNATURE_KEY,
    TERMS_KEY,
)
from cloister_shared.records import is_record, read_record
from cloister_shared.requests import SignedTerms

HEARTBEAT_S = 10.0
"""The shortest that Flower allows: a dead node is missed after twice as long."""
_BEAT_S = 8.0
_PART_FIRST_S, _PART_LAST_S, _PARTS_S = 0.01, 0.5, 30.0
_REFUSED = (
    httpx.codes.BAD_REQUEST,
    httpx.codes.FORBIDDEN,
    httpx.codes.NOT_FOUND,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE,
)
_QUESTION = (BODY_KEY, RECEIPTS_KEY, TERMS_KEY, SIGNATURE_KEY)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message that was announced: who sent it and what kind it is, but none of its content."""

    metadata: Metadata
    parts: ObjectTree

    @property
    def kind(self) -> str:
        """The message's type, such as ``train.round``."""
        return self.metadata.message_type

    @property
    def run(self) -> int:
        """Flower's id of the run."""
        return self.metadata.run_id

    @property
    def end(self) -> float:
        """When nobody waits for its answer any more, by the coordinator's clock, since 1970."""
        return self.metadata.created_at + self.metadata.ttl


@dataclass
class _Sending:
    """The answer to the message ``asked``, of which these parts are still to be sent.

    ``is_unsure`` says that the coordinator may have the last one: its answer to that was lost.
    """

    asked: str
    parts: list[PushObjectRequest]
    is_unsure: bool = False


class FleetLink:
    """Flower's fleet interface at ``address`` (host:port), as the node that holds ``key``.

    ``authority`` is the PEM certificate of the only authority that is believed. The id that Flower
    gave the node is kept in the file ``memory``. No answer longer than ``max_bytes`` is read.
    """

    def __init__(
        self,
        address: str,
        authority: bytes,
        key: EllipticCurvePrivateKey,
        memory: Path,
        *,
        max_bytes: int,
        clock: Clock = system_clock,
    ) -> None:
        self._time = SignedTime(key, clock)
        self._memory = memory
        self._max_bytes = max_bytes
        self._client = connection.connect(address, authority, self._time, max_bytes)
        self._node = Node()
        self._sending: _Sending | None = None

    @property
    def clock_offset_s(self) -> float:
        """By how much the coordinator's clock is ahead of this machine's, in seconds."""
        return self._time.offset.total_seconds()

    def now(self) -> float:
        """The coordinator's time, in seconds since 1970 (UTC)."""
        return self._time.now().timestamp()

    @property
    def node_id(self) -> int:
        """What Flower calls this node; 0 before it is connected."""
        return self._node.node_id

    def connect(self) -> None:
        """Be there for the coordinator; raises ``ShutOutError`` if it does not know this node.

        Flower refuses a node that it holds for online still: one that was restarted goes on under
        the id that it had.
        """
        remembered = self._remembered()
        if remembered and self._is_known(remembered):
            self._node = Node(node_id=remembered)
            return
        request = ActivateNodeRequest(public_key=self._time.public, heartbeat_interval=HEARTBEAT_S)
        with _named_errors():
            self._node = Node(node_id=self._client.ActivateNode(request).node_id)
        write_atomically(self._memory, str(self._node.node_id).encode())

    def beat(self, wait: Callable[[float], bool]) -> None:
        """Send heartbeats until ``wait``, for so many seconds, says that it is over."""
        while not wait(_BEAT_S):
            if self._node.node_id:
                self._try_to_beat()

    def _try_to_beat(self) -> None:
        """One heartbeat, which fails where the link does; the next one is sent whatever it was."""
        try:
            self._is_known(self._node.node_id)
        except (httpx.HTTPError, LostError):
            pass  # the loop meets the same, and tells of it
        # Whatever a coordinator made it stumble over: a thread that ends is missed by nobody here.
        except Exception as error:
            log_failure(error)

    def pull(self) -> Envelope | None:
        """The next message for this node; ``None`` if there is none.

        Raises ``LostError`` for one that is not even addressed as it should be.
        """
        with _named_errors():
            answer = self._client.PullMessages(PullMessagesRequest(node=self._node))
        if not answer.messages_list:
            return None
        try:
            metadata = metadata_from_proto(answer.messages_list[0].metadata)
            return Envelope(metadata, answer.message_object_trees[0])
        except (ValueError, IndexError) as error:
            raise LostError("a message of a form that Flower does not know") from error

    def bundle(self, run: int) -> Bundle:
        """What the run ``run`` was started with; ``LostError`` if it is over."""
        with _named_errors():
            found = self._client.GetRun(GetRunRequest(node=self._node, run_id=run)).run
            request = GetFabRequest(node=self._node, hash_str=found.fab_hash, run_id=run)
            content = self._client.GetFab(request).fab.content
        return Bundle(content, found.fab_hash, _settings(found.override_config))

    def open(self, envelope: Envelope) -> Question:
        """The content of a message; ``LostError`` if it is not all there, or if its time is over.

        It has as many bytes as one answer may have, however many parts it comes in.
        """
        tree = islice(iterate_object_tree(envelope.parts), MOST_PARTS + 1)
        parts = [part.object_id for part in tree]
        if len(parts) > MOST_PARTS:
            raise LostError(f"a message of more than {MOST_PARTS} parts is none of ours")
        with _named_errors():
            contents = self._parts(envelope, parts)
            self._client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self._node,
                    run_id=envelope.run,
                    message_object_id=envelope.metadata.message_id,
                )
            )
        return _question(contents)

    def reply(self, envelope: Envelope, body: bytes) -> None:
        """Answer a message; ``LostError`` if nobody waits for that any more.

        Called again after a lost connection, it sends what was not yet sent.
        """
        content = RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: body})})
        self._answer(envelope, content, None)

    def fail(self, envelope: Envelope, code: int) -> None:
        """Answer a message with an error of the transport."""
        self._answer(envelope, None, Error(code, "the node's own log says why"))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, envelope: Envelope, content: RecordDict | None, error: Error | None) -> None:
        asked = envelope.metadata.message_id
        with _named_errors():
            if self._sending is None or self._sending.asked != asked:
                metadata = self._answering(envelope)
                self._sending = self._announced(make_message(metadata, content, error), asked)
            while self._sending.parts:
                self._left_s(envelope)
                self._send_part(self._sending)

    def _send_part(self, sending: _Sending) -> None:
        """Send the last part; ``LostError`` if the coordinator wants no more of this answer."""
        try:
            is_stored = self._client.PushObject(sending.parts[-1]).stored
        except httpx.TransportError:
            sending.is_unsure = True
            raise
        if not is_stored and not sending.is_unsure:
            raise LostError("the coordinator did not keep the answer: it came too slowly")
        sending.parts.pop()
        sending.is_unsure = False

    def _left_s(self, envelope: Envelope) -> float:
        """How long a message is waited for yet; ``LostError`` if it is not."""
        left = envelope.end - self.now()
        if not left > 0:  # no number is not, either
            raise LostError("a message's time is over: its round is")
        return left

    def _announced(self, message: Message, asked: str) -> "_Sending":
        """Tell the coordinator of an answer; ``LostError`` if it does not want its parts."""
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            objects, tree = get_all_nested_objects(message), get_object_tree(message)
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
                clientapp_runtime_list=[0.0],
            )
            answer = self._client.PushMessages(request)
            if not answer.objects_to_push:
                raise LostError("the coordinator did not take the answer: it came too late")
            parts = [
                PushObjectRequest(
                    node=self._node,
                    run_id=message.metadata.run_id,
                    session_id=answer.session_id,
                    object_id=identifier,
                    object_content=objects[identifier].deflate(),
                )
                for identifier in answer.objects_to_push
            ]
        return _Sending(asked, parts)

    def _answering(self, envelope: Envelope) -> Metadata:
        """The metadata of an answer, by the coordinator's clock: Flower's own takes this one's."""
        asked = envelope.metadata
        return Metadata(
            run_id=asked.run_id,
            message_id="",
            src_node_id=self._node.node_id,
            dst_node_id=asked.src_node_id,
            reply_to_message_id=asked.message_id,
            group_id=asked.group_id,
            created_at=self.now(),
            ttl=self._left_s(envelope),
            message_type=asked.message_type,
            src_task_id=asked.dst_task_id,
            dst_task_id=asked.src_task_id,
        )

    def _parts(self, envelope: Envelope, identifiers: list[str]) -> list[bytes]:
        """All parts of a message; nothing of it is believed yet, so little is held."""
        end = time.monotonic() + _PARTS_S
        contents: list[bytes] = []
        left = self._max_bytes
        for identifier in identifiers:
            self._left_s(envelope)
            contents.append(self._part(envelope.run, identifier, end))
            left -= len(contents[-1])
            if left < 0:
                raise LostError(f"a message of more than {self._max_bytes} bytes is none of ours")
        return contents

    def _part(self, run: int, identifier: str, end: float) -> bytes:
        """One part of a message, which the coordinator may still be sending."""
        request = PullObjectRequest(node=self._node, run_id=run, object_id=identifier)
        pause = _PART_FIRST_S
        while True:
            answer = self._client.PullObject(request)
            if answer.object_available:
                return answer.object_content
            if not answer.object_found or time.monotonic() >= end:
                raise LostError("a message was withdrawn before it was complete")
            time.sleep(pause)
            pause = min(2 * pause, _PART_LAST_S)

    def _is_known(self, node: int) -> bool:
        try:
            with _named_errors():
                return self._beats(node)
        except ShutOutError:
            return False

    def _beats(self, node: int) -> bool:
        request = SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=HEARTBEAT_S)
        return self._client.SendNodeHeartbeat(request).success

    def _remembered(self) -> int:
        """The id of the last time; 0 if there was none, or if the file was spoiled."""
        try:
            return int(self._memory.read_bytes())
        except (OSError, ValueError):
            return 0


@contextmanager
def _named_errors() -> Iterator[None]:
    """Refusals of the coordinator by what they mean; the network's errors as they are."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status == httpx.codes.UNAUTHORIZED:
            raise ShutOutError("the coordinator does not know this node") from error
        if status in _REFUSED:
            raise LostError(f"the coordinator refused it: HTTP {status}") from error
        raise
    except httpx.DecodingError as error:
        raise LostError(str(error)) from error
    except ValueError as error:
        if not isinstance(error.__cause__, DecodeError):
            raise
        raise LostError("an answer of the coordinator that cannot be read") from error


def _settings(given: Mapping[str, Scalar]) -> Mapping[str, object]:
    """What a run was started with; ``LostError`` for values of no type."""
    if any(value.WhichOneof("scalar") is None for value in given.values()):
        raise LostError("a run was started with a setting that has no value")
    return user_config_from_proto(given)


def _question(parts: Collection[bytes]) -> Question:
    """What a message asks; empty where it has another form than ours.

    Its parts are a stranger's bytes still: the record is read by hand, the others not at all.
    """
    records = [part for part in parts if is_record(part)]
    if len(records) != 1:
        return Question(b"")
    try:
        found = read_record(records[0], len(_QUESTION))
    except ValueError:
        return Question(b"")
    body, receipts, *signed = (found.get(key, b"") for key in _QUESTION)
    return Question(body, receipts, SignedTerms(*signed))
