"""Flower's side of a node: bytes through a ClientApp, and nothing else of ours leaves by it."""

import logging

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from cloister_client.flower import make_client_app
from cloister_shared.errors import ConfigError, DataError
from cloister_shared.messages import (
    BODY_KEY,
    EVALUATE_ACTION,
    RECEIPTS_KEY,
    RECORD_KEY,
    RELEASE_ACTION,
    TRAIN_ACTION,
)

TRAIN, RELEASE = f"train.{TRAIN_ACTION}", f"query.{RELEASE_ACTION}"
EVALUATE = f"evaluate.{EVALUATE_ACTION}"


class Echo:
    """Answers with what it was asked, and what for."""

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        return b"trained on " + message + receipts

    def answer_evaluate(self, message: bytes, receipts: bytes = b"") -> bytes:
        return b"measured " + message + receipts

    def answer_release(self, message: bytes) -> bytes:
        return b"installed " + message


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        raise self.error


@pytest.fixture(autouse=True)
def _identity():
    """Flower stamps messages with the task that sends them."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID


def context() -> Context:
    return Context(1, 7, {"home": "oak"}, RecordDict(), {})


def send(app: ClientApp, kind: str, content: RecordDict) -> Message:
    message = Message(content, 7, kind)
    message.metadata.__dict__["_message_id"] = "id"
    return app(message, context())


def body(content: object) -> RecordDict:
    return RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: content})})


def app_of(node: object) -> ClientApp:
    return make_client_app(lambda context: node)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (TRAIN, b"trained on bytes"),
        (EVALUATE, b"measured bytes"),
        (RELEASE, b"installed bytes"),
    ],
)
def test_a_reply_is_the_nodes_bytes_and_nothing_more(kind, answer):
    reply = send(app_of(Echo()), kind, body(b"bytes"))
    assert not reply.has_error()
    assert {name: dict(record) for name, record in reply.content.items()} == {
        RECORD_KEY: {BODY_KEY: answer}
    }


@pytest.mark.parametrize(
    ("kind", "answer"), [(TRAIN, b"trained on bytes+kept"), (EVALUATE, b"measured bytes+kept")]
)
def test_receipts_beside_a_request_reach_the_node(kind, answer):
    content = body(b"bytes")
    content.config_records[RECORD_KEY][RECEIPTS_KEY] = b"+kept"
    assert send(app_of(Echo()), kind, content).content[RECORD_KEY][BODY_KEY] == answer


@pytest.mark.parametrize(
    "content",
    [RecordDict(), RecordDict({RECORD_KEY: ConfigRecord()}), body("text"), body(3), body([b"b"])],
    ids=["no record", "no body", "text", "a number", "a list"],
)
def test_a_message_without_a_body_is_one_of_no_bytes(content):
    reply = send(app_of(Echo()), TRAIN, content)
    assert reply.content[RECORD_KEY][BODY_KEY] == b"trained on "


def test_the_node_is_found_by_flowers_context():
    asked = []

    def provide(context: Context) -> Echo:
        asked.append(context.node_config["home"])
        return Echo()

    send(make_client_app(provide), TRAIN, body(b""))  # type: ignore[arg-type]
    assert asked == ["oak"]


@pytest.mark.parametrize("error", [KeyError("ada lovelace"), DataError("of ada lovelace")])
def test_flower_is_never_told_the_text_of_an_error(error, caplog):
    """Flower sends an exception's text and type to the coordinator."""
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError) as caught:
        send(app_of(Failing(error)), TRAIN, body(b""))
    assert "lovelace" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert type(error).__name__ in caplog.text
    assert "answer_train" in caplog.text


def test_the_local_log_holds_the_text_of_our_own_errors_only(caplog):
    for error in (KeyError("ada lovelace"), ConfigError("no such home")):
        with pytest.raises(RuntimeError):
            send(app_of(Failing(error)), TRAIN, body(b""))
    assert "lovelace" not in caplog.text
    assert "no such home" in caplog.text
