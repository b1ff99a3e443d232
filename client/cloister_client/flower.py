"""Flower's side of a node: a ClientApp that hands bytes to :class:`Node` and bytes back.

All use of Flower in this package is here and in :mod:`cloister_client.app`.
"""

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from cloister_client.node import Node
from cloister_shared.messages import BODY_KEY, RECORD_KEY, RELEASE_ACTION, TRAIN_ACTION

NodeProvider = Callable[[Context], Node]
"""Finds the node that a Flower context belongs to."""


def make_client_app(provide: NodeProvider) -> ClientApp:
    """A ClientApp for the node that ``provide`` finds; the same under every Flower engine."""
    app = ClientApp()

    @app.train(TRAIN_ACTION)
    def train(message: Message, context: Context) -> Message:
        return _answer(message, provide(context).answer_train)

    @app.query(RELEASE_ACTION)
    def release(message: Message, context: Context) -> Message:
        return _answer(message, provide(context).answer_release)

    return app


def _answer(message: Message, answer: Callable[[bytes], bytes]) -> Message:
    record = message.content.config_records.get(RECORD_KEY)
    body = None if record is None else record.get(BODY_KEY)
    reply = answer(body if isinstance(body, bytes) else b"")
    return Message(RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: reply})}), reply_to=message)
