"""Flower's runs as a warm process takes them up: the task, its heartbeat, and a grid that is quick.

All use of Flower's runtime interface is here; tests/server/test_grid.py holds the contract.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, cast

import httpx
from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import message_from_proto, run_from_proto
from flwr.proto.error_pb2 import Error as ProtoError
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from cloister_server.home import CoordinatorHome
from cloister_server.superlink import LOOPBACK
from cloister_shared.bundles import check_settings
from cloister_shared.errors import RunError, ServiceError
from cloister_shared.patience import patiently

FIRST_POLL_S, LAST_POLL_S, POLL_SHARE = 0.05, 1.0, 0.02
"""Between two looks for replies: a fiftieth of the time since they were asked for, in bounds, and
twice as long as a look takes."""
RESEND_S = 10.0
"""Who is silent for twice the time that the slowest answer took, and so long, is asked anew."""
RETURN_S = 8.0
"""How long a node has to come back that Flower holds for dead: perhaps it was the link that was."""

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_BEAT_S = 10.0
_CALL_S = 120.0
_PART_FIRST_S, _PART_LAST_S, _PARTS_S = 0.01, 0.5, 30.0
_MOST_PARTS = 16
"""An honest reply has a few; each may be as large as the guard lets a body be."""

_SHUT_OUT = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_BUSY = (
    httpx.codes.TOO_MANY_REQUESTS,
    httpx.codes.INTERNAL_SERVER_ERROR,
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
    httpx.codes.GATEWAY_TIMEOUT,
)

Answer = TypeVar("Answer")
_LOG = logging.getLogger(__name__)


class TaskLostError(RunError):
    """Flower no longer takes this process for the one that runs the run; its checkpoint is kept."""


class QuickGrid(HttpGrid):
    """Flower's grid with quick polls, over a link that may be restarted beneath it."""

    def __init__(self, address: str, token: str) -> None:
        super().__init__(address, insecure=True, token=token)
        self.slowest_s = 0.0
        """What the slowest answer to a first question took until now."""

    def _connect(self) -> None:
        """Without Flower's retries: they wait up to 20 s, and end the process when refused."""
        self._client = RuntimeHttpClient(
            f"http://{self._addr}",
            interceptors=[RuntimeTokenHttpInterceptor(token=self._token)],
            timeout=_CALL_S,
        )

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Nodes that are there, as soon as Flower says so."""
        return _patiently(super().get_nodes, time.monotonic() + _CALL_S)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Replies as they come, one for each message, until ``timeout`` seconds are over.

        A message is asked again, as a new one with the same content, if its node stays silent:
        Flower gives out no message twice, so a node that died with it comes back without.
        """
        return _RoundTrip(self, list(messages), _CALL_S if timeout is None else timeout).replies()

    def ask(self, messages: Callable[[], list[Message]], end: float) -> list[str]:
        """Push what ``messages`` makes, anew should the link be away; ids in their order."""
        return _patiently(lambda: list(self.push_messages(messages())), end)

    def look(self, identifiers: Iterable[str], end: float) -> list[tuple[ProtoMessage, ObjectTree]]:
        """Replies to these messages that have come since the last look, with their parts' ids."""
        request = PullAppMessagesRequest(message_ids=identifiers)
        answer = _patiently(lambda: self._runtime_client.PullMessages(request), end)
        return list(zip(answer.messages_list, answer.message_object_trees, strict=True))

    def fetch(self, proto: ProtoMessage, tree: ObjectTree, end: float) -> Message | None:
        """A reply with all its parts; ``None`` if its sender did not send them all.

        What is no message, or has too many parts, is an error of the transport: its sender is
        named, and the round goes on.
        """
        identifier = proto.metadata.message_id
        parts: dict[str, bytes] = {}
        for number, one in enumerate(iterate_object_tree(tree)):
            if number == _MOST_PARTS:
                return _error(ErrorCode.UNKNOWN)
            part = self._part(one.object_id, min(end, time.monotonic() + _PARTS_S))
            if part is None:
                return None
            parts[one.object_id] = part
        request = ConfirmMessageReceivedRequest(
            node=self.node, run_id=self.run.run_id, message_object_id=identifier
        )
        _patiently(lambda: self._runtime_client.ConfirmMessageReceived(request), end)
        return _inflated(identifier, parts) or _error(ErrorCode.UNKNOWN)

    def _part(self, identifier: str, end: float) -> bytes | None:
        request = PullObjectRequest(node=self.node, run_id=self.run.run_id, object_id=identifier)
        pause = _PART_FIRST_S
        while True:
            answer = _patiently(lambda: self._runtime_client.PullObject(request), end)
            if answer.object_available:
                return answer.object_content
            if not answer.object_found or time.monotonic() >= end:
                return None
            time.sleep(pause)
            pause = min(2 * pause, _PART_LAST_S)


def _inflated(identifier: str, parts: dict[str, bytes]) -> Message | None:
    """The message; ``None`` if that is not what a node sent, whatever it sent."""
    try:
        message = inflate_object_from_contents(identifier, parts)
        content = message.content if isinstance(message, Message) else None
    # A node chooses these bytes, and Flower's readers raise whatever they stumble over.
    except Exception as error:
        _LOG.warning("a reply cannot be read: %s", type(error).__name__)
        return None
    return cast(Message, message) if isinstance(content, RecordDict) else None


def _error(code: int) -> Message:
    """An error in place of a reply, with nothing of what came with it: a node chose that."""
    metadata = ProtoMetadata(message_type="query")
    return message_from_proto(ProtoMessage(metadata=metadata, error=ProtoError(code=code)))


class _RoundTrip:
    """One exchange: who was asked with which messages, who is silent, whom to ask anew and when."""

    def __init__(self, grid: QuickGrid, messages: list[Message], timeout_s: float) -> None:
        self._grid = grid
        self._silent = {one.metadata.dst_node_id: one for one in messages}
        self._began = time.monotonic()
        self._end = self._began + timeout_s
        self._patience_s = max(RESEND_S, 2 * grid.slowest_s or timeout_s / 3)
        self._asked: dict[str, int] = {}
        self._again: dict[int, float] = {}
        self._given_up: set[int] = set()
        self._anew: set[int] = set()

    def replies(self) -> Iterator[Message]:
        """One reply or error of the transport from each node, as they come."""
        self._ask(list(self._silent))
        while self._silent and self._elapsed_s < self._end - self._began:
            waiting = [one for one, node in self._asked.items() if node in self._silent]
            looked = time.monotonic()
            found = self._grid.look(waiting, self._end)
            took_s = time.monotonic() - looked
            for proto, tree in found:
                reply = self._taken(proto, tree)
                if reply is not None:
                    yield reply
            now = time.monotonic()
            silent = [node for node in self._silent if self._again[node] <= now]
            self._anew.update(silent)
            self._ask(silent)
            if self._silent:
                pause_s = max(FIRST_POLL_S, POLL_SHARE * self._elapsed_s, 2 * took_s)
                time.sleep(min(LAST_POLL_S, pause_s))

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def _ask(self, nodes: list[int]) -> None:
        if not nodes:
            return
        identifiers = self._grid.ask(lambda: [self._message(node) for node in nodes], self._end)
        self._asked.update(zip(identifiers, nodes, strict=True))
        self._again |= dict.fromkeys(nodes, time.monotonic() + self._patience_s)

    def _message(self, node: int) -> Message:
        """What the node is asked, to be forgotten by the link when the exchange is over."""
        given = self._silent[node]
        return Message(
            given.content,
            node,
            given.metadata.message_type,
            ttl=max(1.0, self._end - time.monotonic()),
            group_id=given.metadata.group_id,
        )

    def _taken(self, proto: ProtoMessage, tree: ObjectTree) -> Message | None:
        """The reply, if it is its node's first; errors of the link bear the silent node's id."""
        node = self._asked.pop(proto.metadata.reply_to_message_id, None)
        if node not in self._silent:
            return None
        if proto.HasField("error"):
            if proto.error.code == ErrorCode.MESSAGE_UNAVAILABLE:
                return None  # its time is over, or the link has forgotten it
            if proto.error.code == ErrorCode.NODE_UNAVAILABLE and node not in self._given_up:
                self._given_up.add(node)
                self._again[node] = time.monotonic() + RETURN_S
                return None
            reply: Message | None = _error(proto.error.code)
        else:
            reply = self._grid.fetch(proto, tree, self._end)
        if reply is not None:
            del self._silent[node]
            if node not in self._anew:
                self._grid.slowest_s = max(self._grid.slowest_s, self._elapsed_s)
            reply.metadata.__dict__["_src_node_id"] = node
        return reply


@dataclass
class Task:
    """Flower's leave to run the run ``run`` of ours, kept up by heartbeats until it is finished."""

    run: str
    grid: QuickGrid
    client: RuntimeHttpClient
    _over: threading.Event = field(default_factory=threading.Event)

    def keep_up(self) -> None:
        """Send heartbeats from now on; Flower gives the run up a minute after the last."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def finish(self, error: str = "") -> None:
        """Tell Flower that the run is over, if it still wants to know."""
        self._over.set()
        status = SubStatus.FAILED if error else SubStatus.COMPLETED
        try:
            self.client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=error))
        except httpx.HTTPError as lost:
            _LOG.info("Flower was not told of the end of run %s: %s", self.run, type(lost).__name__)
        self.grid.close()
        self.client.close()

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            try:
                self.client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError as error:
                _LOG.info("a heartbeat of run %s was lost: %s", self.run, type(error).__name__)


def acquire(home: CoordinatorHome) -> Task | None:
    """The task of a run that was started and that nobody runs; ``None`` if there is none.

    Raises ``ServiceError`` if the link does not answer, and ``PolicyError`` for a run that was not
    started by us.
    """
    address = f"{LOOPBACK}:{home.config.control_port}"
    executor = SuperExecAuthHttpInterceptor(
        master_secret=home.superexec_secret(), protected_methods={_ACQUIRE}
    )
    try:
        with RuntimeHttpClient(f"http://{address}", interceptors=[executor]) as asking:
            wanted = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
            token = asking.AcquireTask(wanted).token
        return _opened(address, token) if token else None
    except httpx.HTTPError as error:
        raise ServiceError(
            f"the link on {address} did not answer as it should ({type(error).__name__}); is the "
            "coordinator up? see its log"
        ) from error


def _opened(address: str, token: str) -> Task:
    client = RuntimeHttpClient(
        f"http://{address}", interceptors=[RuntimeTokenHttpInterceptor(token=token)]
    )
    task = client.PullTaskInput(PullTaskInputRequest())
    # Flower stamps every message of this process with these.
    TaskIdentity.task_id = task.task_id
    TaskIdentity.run_id = task.run.run_id
    TaskIdentity.node_id = task.context.node_id
    run = run_from_proto(task.run)
    grid = QuickGrid(address, token)
    grid.set_run(run)
    opened = Task(check_settings(run.override_config), grid, client)
    opened.keep_up()
    return opened


def _patiently(ask: Callable[[], Answer], end: float) -> Answer:
    """The answer, asked for until ``end`` (monotonic) while the link is away.

    Raises ``TaskLostError`` if Flower has given the run to nobody or to somebody else.
    """

    def pause(seconds: float) -> bool:
        left = end - time.monotonic()
        time.sleep(max(0.0, min(seconds, left)))
        return left <= seconds

    try:
        return patiently(ask, _passes, pause)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _SHUT_OUT:
            raise TaskLostError(
                "Flower has ended this run: it was stopped, or the coordinator was away too long"
            ) from error
        raise RunError(f"the link refused a call: HTTP {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise RunError(f"the link did not answer: {type(error).__name__}") from error


def _passes(error: Exception) -> bool:
    """Whether this is of a link that is being restarted, or busy."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _BUSY
    return isinstance(error, httpx.TransportError)
