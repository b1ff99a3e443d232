"""A Flower ``Grid`` whose nodes live in this process: the same apps, no start-up, no polling.

The unstable names of Flower that this needs (``TaskIdentity``, ``Run``) are used nowhere else in
this package; tests/simulations/backend holds the contract.
"""

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_LOG = logging.getLogger(__name__)
_RUN_ID = 1


class InProcessGrid(Grid):
    """Answers each message at once by calling ``client_app`` with the node's own context."""

    def __init__(self, client_app: ClientApp, node_configs: Mapping[int, UserConfig]) -> None:
        self._client_app = client_app
        self._contexts = {
            node: Context(_RUN_ID, node, dict(config), RecordDict(), {})
            for node, config in node_configs.items()
        }
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(_RUN_ID)

    def set_run(self, run: Run) -> None:
        """Use ``run`` from now on."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message from the coordinator; Flower prefers ``Message(...)``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the nodes answer, one after the other; returns the messages' ids."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to ``message_ids``, each handed out once."""
        return [self._replies.pop(one) for one in message_ids if one in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Each node answers when its turn comes: only one reply is held. Nobody is waited for."""
        del timeout
        for message in messages:
            yield from self.pull_messages([self._deliver(message)])

    def _deliver(self, message: Message) -> str:
        identifier = uuid.uuid4().hex
        message.metadata.__dict__["_message_id"] = identifier
        self._replies[identifier] = self._answer(message)
        return identifier

    def _answer(self, message: Message) -> Message:
        """The node's reply; as in Flower's engines, a failing node is an error reply."""
        try:
            return self._client_app(message, self._contexts[message.metadata.dst_node_id])
        except Exception:
            _LOG.exception("node %s failed", message.metadata.dst_node_id)
            error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "the node's app failed")
            return Message(error, reply_to=message)


def run_in_process(
    server_app: ServerApp,
    client_app: ClientApp,
    node_configs: Mapping[int, UserConfig],
    run_config: UserConfig | None = None,
) -> None:
    """Run ``server_app`` to its end over in-process nodes with the given Flower configs."""
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = _RUN_ID
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    grid = InProcessGrid(client_app, node_configs)
    server_app(grid, Context(_RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), run_config or {}))
