"""Flower's side of a node: a ClientApp that hands bytes to a ``Participant`` and bytes back.

All use of Flower in this package is here and in :mod:`cloister_client.app`.
"""

from collections.abc import Callable
from typing import Protocol

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from cloister_client.failures import log_failure
from cloister_shared.messages import (
    BODY_KEY,
    EVALUATE_ACTION,
    RECEIPTS_KEY,
    RECORD_KEY,
    RELEASE_ACTION,
    TRAIN_ACTION,
)


class Participant(Protocol):
    """Whoever answers the coordinator: a node, or what stands for many in a simulation.

    ``receipts`` come beside a request: how the coordinator saw the nodes' ledgers last.
    """

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        """The reply to a train request."""

    def answer_evaluate(self, message: bytes, receipts: bytes = b"") -> bytes:
        """The reply to a request for metrics."""

    def answer_release(self, message: bytes) -> bytes:
        """The reply to a release."""


NodeProvider = Callable[[Context], Participant]
"""Finds the participant that a Flower context belongs to."""


def make_client_app(provide: NodeProvider) -> ClientApp:
    """A ClientApp for the node that ``provide`` finds; the same under every Flower engine."""
    app = ClientApp()

    @app.train(TRAIN_ACTION)
    def train(message: Message, context: Context) -> Message:
        return _answer(
            message, lambda body, receipts: provide(context).answer_train(body, receipts)
        )

    @app.evaluate(EVALUATE_ACTION)
    def evaluate(message: Message, context: Context) -> Message:
        return _answer(
            message, lambda body, receipts: provide(context).answer_evaluate(body, receipts)
        )

    @app.query(RELEASE_ACTION)
    def release(message: Message, context: Context) -> Message:
        return _answer(message, lambda body, _: provide(context).answer_release(body))

    return app


def _answer(message: Message, answer: Callable[[bytes, bytes], bytes]) -> Message:
    record = message.content.config_records.get(RECORD_KEY) or ConfigRecord()
    body, receipts = record.get(BODY_KEY), record.get(RECEIPTS_KEY)
    try:
        reply = answer(
            body if isinstance(body, bytes) else b"",
            receipts if isinstance(receipts, bytes) else b"",
        )
    except Exception as error:
        log_failure(error)
        # Flower tells the coordinator an exception's text, which could hold learner data.
        raise RuntimeError("the node failed; its own log says why") from None
    return Message(RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: reply})}), reply_to=message)
