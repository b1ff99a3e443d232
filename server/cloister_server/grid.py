"""Flower's runs as a warm process takes them up: the task, its heartbeat, and a grid that is quick.

All use of Flower's runtime interface is here and in :mod:`cloister_server.round_trip`;
tests/client/fleet/test_link.py and tests/server/test_superlink_contract.py hold the contract.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import no_object_id_recompute
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from cloister_server.bell import BellRope
from cloister_server.home import CoordinatorHome
from cloister_server.round_trip import RoundTrip
from cloister_server.superlink import LOOPBACK
from cloister_shared.bundles import check_settings
from cloister_shared.errors import RunError, ServiceError
from cloister_shared.patience import patiently

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_BEAT_S = 10.0
_CALL_S = 120.0
_PUSH_FAILS_S = 2.0
"""How long a message is pushed again to a link that is up and fails over it."""

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


class GaveWayError(RunError):
    """An exchange was broken off for something that is more urgent."""


def never() -> bool:
    """Whether to give way, of what is as urgent as anything."""
    return False


class _FailedError(RunError):
    """A link that is up fails over a call, again and again."""


class QuickGrid(HttpGrid):
    """Flower's grid that need not be polled, over a link that may be restarted beneath it.

    A reply may have ``most_bytes``, all its parts together. Pulls the ``rope`` whenever there is
    something for a node.
    """

    def __init__(self, address: str, token: str, rope: BellRope, most_bytes: int) -> None:
        super().__init__(address, insecure=True, token=token)
        self._rope = rope
        self.most_bytes = most_bytes
        self.slowest_s = 0.0
        """What the slowest answer to a first question took until now."""
        self.gives_way: Callable[[], bool] = never
        """Asked while an exchange waits for nodes: whether it is to end with ``GaveWayError``."""

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
        return RoundTrip(self, list(messages), _CALL_S if timeout is None else timeout).replies()

    def ask(self, messages: Iterable[Message], end: float) -> list[str]:
        """Push messages, each again should the link be away; ids in their order.

        Each by itself: a node knows the parts of what it is sent, and can end Flower's session in
        which they are being pushed, for all that are pushed in it. Their common content is read
        and sent once all the same.
        """
        with no_object_id_recompute():
            return [self._pushed(one, end) for one in messages]

    def look(self, identifiers: Iterable[str], end: float) -> list[tuple[ProtoMessage, ObjectTree]]:
        """Replies to these messages that were announced since the last look, each once."""
        request = PullAppMessagesRequest(message_ids=identifiers)
        answer = _patiently(lambda: self._runtime_client.PullMessages(request), end)
        return list(zip(answer.messages_list, answer.message_object_trees, strict=True))

    def part(self, identifier: str, end: float) -> bytes:
        """One part of a reply; empty if it is not there."""
        request = PullObjectRequest(node=self.node, run_id=self.run.run_id, object_id=identifier)
        return _patiently(lambda: self._runtime_client.PullObject(request), end).object_content

    def forget(self, identifier: str, end: float) -> None:
        """Have Flower delete the parts of a reply, or of what was asked."""
        request = ConfirmMessageReceivedRequest(
            node=self.node, run_id=self.run.run_id, message_object_id=identifier
        )
        _patiently(lambda: self._runtime_client.ConfirmMessageReceived(request), end)

    def wait(self, within_s: float) -> None:
        """Return once nodes have sent anything since the last time, or when the time is over."""
        self._rope.wait(within_s)
        if self.gives_way():
            raise GaveWayError("something else is more urgent")

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._rope.close()

    def _pushed(self, message: Message, end: float) -> str:
        identifier = message.object_id
        message.metadata.__dict__["_message_id"] = identifier
        push = partial(self._try_push_messages, self.run.run_id, [message])
        # A node that cannot be asked is as good as silent: others are not kept waiting for it.
        try:
            _patiently(push, end, _Failures(_PUSH_FAILS_S))
        except ObjectPushError:
            # Its node has put an end to it before it was whole.
            _LOG.info("a message was withdrawn while it was being pushed")
        except _FailedError:
            _LOG.warning("a message could not be pushed: Flower fails over it")
        self._rope.ring(message.metadata.dst_node_id)
        return identifier


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
        return _opened(home, address, token) if token else None
    except httpx.HTTPError as error:
        raise ServiceError(
            f"the link on {address} did not answer as it should ({type(error).__name__}); is the "
            "coordinator up? see its log"
        ) from error


def _opened(home: CoordinatorHome, address: str, token: str) -> Task:
    client = RuntimeHttpClient(
        f"http://{address}", interceptors=[RuntimeTokenHttpInterceptor(token=token)]
    )
    task = client.PullTaskInput(PullTaskInputRequest())
    # Flower stamps every message of this process with these.
    TaskIdentity.task_id = task.task_id
    TaskIdentity.run_id = task.run.run_id
    TaskIdentity.node_id = task.context.node_id
    run = run_from_proto(task.run)
    rope = BellRope(address, home.control_secret())
    grid = QuickGrid(address, token, rope, home.config.limits.max_body_bytes)
    grid.set_run(run)
    opened = Task(check_settings(run.override_config), grid, client)
    opened.keep_up()
    return opened


def _passes(error: Exception) -> bool:
    """Whether this is of a link that is being restarted, or busy."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _BUSY
    return isinstance(error, httpx.TransportError)


@dataclass
class _Failures:
    """As ``_passes``, but a link that is up and fails is asked for no longer than ``within_s``."""

    within_s: float
    _since: float | None = None

    def __call__(self, error: Exception) -> bool:
        if _is_failure(error):
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            return now - self._since < self.within_s
        return _passes(error)


def _is_failure(error: Exception) -> bool:
    return (
        isinstance(error, httpx.HTTPStatusError)
        and error.response.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    )


def _patiently(
    ask: Callable[[], Answer], end: float, passes: Callable[[Exception], bool] = _passes
) -> Answer:
    """The answer, asked for until ``end`` (monotonic) while the link is away.

    Raises ``TaskLostError`` if Flower has given the run to nobody or to somebody else.
    """

    def pause(seconds: float) -> bool:
        left = end - time.monotonic()
        time.sleep(max(0.0, min(seconds, left)))
        return left <= seconds

    try:
        return patiently(ask, passes, pause)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in _SHUT_OUT:
            raise TaskLostError(
                "Flower has ended this run: it was stopped, or the coordinator was away too long"
            ) from error
        refused = _FailedError if _is_failure(error) else RunError
        raise refused(f"the link refused a call: HTTP {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise RunError(f"the link did not answer: {type(error).__name__}") from error
