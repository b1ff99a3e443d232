"""The contract with Flower's unstable parts: grids, messages, identities, server apps."""

import time
from collections.abc import Callable, Iterable

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from cloister_server.exchange import Reply
from cloister_server.flower import GridExchange, Signer, make_server_app
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    BODY_KEY,
    EVALUATE_ACTION,
    RECORD_KEY,
    RELEASE_ACTION,
    TRAIN_ACTION,
)
from cloister_shared.signing import SigningKey
from cloister_simulations.backend.in_process import InProcessGrid, run_in_process

pytestmark = pytest.mark.usefixtures("flower_task")

Handler = Callable[[Message, Context], Message]


def reply(message: Message, body: object = None) -> Message:
    content = RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: body})})
    return Message(content, reply_to=message)


def body_of(message: Message) -> bytes:
    return bytes(message.content.config_records[RECORD_KEY][BODY_KEY])


def app_of(train: Handler, release: Handler | None = None) -> ClientApp:
    app = ClientApp()
    app.train(TRAIN_ACTION)(train)
    app.evaluate(EVALUATE_ACTION)(train)
    app.query(RELEASE_ACTION)(release or train)
    return app


def exchange_with(app: ClientApp, *nodes: int) -> GridExchange:
    return GridExchange(InProcessGrid(app, {node: {} for node in nodes}))


class JoiningGrid(InProcessGrid):
    """A grid that one more node joins whenever someone looks."""

    joined: tuple[int, ...] = ()

    def get_node_ids(self) -> Iterable[int]:
        self.joined = (*self.joined, 10 - len(self.joined))
        return self.joined


def by_sender(replies: Iterable[Reply]) -> list[Reply]:
    return sorted(replies, key=lambda one: one.sender)


def test_bytes_reach_each_node_and_come_back_with_their_sender() -> None:
    app = app_of(
        lambda message, context: reply(message, b"%d:" % context.node_id + body_of(message))
    )
    replies = exchange_with(app, 9, 2, 7).ask("train", {9: b"nine", 2: b"two", 7: b"seven"}, 3, 1.0)
    expected = [Reply(2, b"2:two"), Reply(7, b"7:seven"), Reply(9, b"9:nine")]
    assert by_sender(replies) == expected


def test_replies_are_handed_on_one_by_one() -> None:
    """The second node is not asked while nobody has taken the reply of the first."""
    asked: list[int] = []

    def answer(message: Message, context: Context) -> Message:
        asked.append(context.node_id)
        return reply(message, b"")

    replies = iter(exchange_with(app_of(answer), 1, 2).ask("train", {1: b"", 2: b""}, 1, 1.0))
    assert next(replies) == Reply(1, b"")
    assert asked == [1]
    assert [one.sender for one in replies] == [2]


def test_nodes_that_are_sent_the_same_share_one_content() -> None:
    """A transport that knows contents by their digest sends it once."""
    contents: list[int] = []

    def answer(message: Message, context: Context) -> Message:
        contents.append(id(message.content))
        return reply(message, b"")

    list(
        exchange_with(app_of(answer), 1, 2, 3).ask(
            "train", dict.fromkeys((1, 2, 3), b"same"), 1, 1.0
        )
    )
    assert len(set(contents)) == 1


def test_every_byte_survives() -> None:
    payload = bytes(range(256)) * 4000
    app = app_of(lambda message, context: reply(message, body_of(message)[::-1]))
    (answer,) = exchange_with(app, 1).ask("train", {1: payload}, 1, 1.0)
    assert answer.body == payload[::-1]


def test_train_and_release_reach_their_own_handlers() -> None:
    app = app_of(
        lambda message, context: reply(message, b"trained"),
        lambda message, context: reply(message, b"stored"),
    )
    exchange = exchange_with(app, 1)
    assert [one.body for one in exchange.ask("train", {1: b""}, 1, 1.0)] == [b"trained"]
    assert [one.body for one in exchange.ask("release", {1: b""}, 1, 1.0)] == [b"stored"]


def test_messages_say_their_round_and_type() -> None:
    seen: list[tuple[str, str, int]] = []

    def handler(message: Message, context: Context) -> Message:
        metadata = message.metadata
        seen.append((metadata.message_type, metadata.group_id, metadata.run_id))
        return reply(message, b"")

    exchange = exchange_with(app_of(handler), 1)
    list(exchange.ask("train", {1: b""}, 12, 1.0))
    list(exchange.ask("evaluate", {1: b""}, 12, 1.0))
    list(exchange.ask("release", {1: b""}, 12, 1.0))
    assert seen == [
        ("train.round", "12", 5),
        ("evaluate.metrics", "12", 5),
        ("query.release", "12", 5),
    ]


def test_a_node_that_fails_is_a_reply_without_a_body() -> None:
    def fail(message: Message, context: Context) -> Message:
        if context.node_id == 2:
            raise RuntimeError("RECORD OF A LEARNER")
        return reply(message, b"fine")

    first, second = exchange_with(app_of(fail), 1, 2).ask("train", {1: b"", 2: b""}, 1, 1.0)
    assert first == Reply(1, b"fine")
    assert (second.sender, second.body) == (2, None)
    assert second.error.startswith("transport error")
    assert "LEARNER" not in second.error


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({RECORD_KEY: ConfigRecord({})}),
        RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: "text"})}),
        RecordDict({RECORD_KEY: ConfigRecord({BODY_KEY: [1, 2]})}),
        RecordDict({RECORD_KEY: ArrayRecord()}),
        RecordDict({"other": ConfigRecord({BODY_KEY: b"x"})}),
    ],
    ids=["empty", "no body", "text", "numbers", "arrays", "another record"],
)
def test_a_reply_of_another_form_has_no_body(content: RecordDict) -> None:
    app = app_of(lambda message, context: Message(content, reply_to=message))
    replies = list(exchange_with(app, 1).ask("train", {1: b""}, 1, 1.0))
    assert replies == [Reply(1, None, "a reply without a body")]


def test_an_error_of_the_transport_is_told_by_its_code() -> None:
    app = app_of(lambda message, context: Message(Error(7, "secret reason"), reply_to=message))
    replies = list(exchange_with(app, 4).ask("train", {4: b""}, 1, 1.0))
    assert replies == [Reply(4, None, "transport error 7")]


def test_nodes_that_are_there_are_found_at_once() -> None:
    app = app_of(lambda message, context: message)
    assert exchange_with(app, 5, 3).wait_for_nodes(1, 60.0) == [3, 5]


def test_nodes_that_join_are_waited_for() -> None:
    grid = JoiningGrid(app_of(lambda message, context: message), {})
    assert GridExchange(grid).wait_for_nodes(3, 60.0) == [8, 9, 10]


def test_who_is_there_but_not_approved_does_not_count_for_enough() -> None:
    """Flower holds a revoked node for there until its heartbeat expires."""
    signer = Signer(
        SigningKey.generate(), lambda nodes: {one: str(one) for one in nodes if one < 9}
    )
    grid = JoiningGrid(app_of(lambda message, context: message), {})
    assert GridExchange(grid, signer).wait_for_nodes(2, 60.0) == [7, 8]


def test_too_few_nodes_are_a_run_error_after_the_deadline_not_an_endless_wait() -> None:
    began = time.monotonic()
    exchange = exchange_with(app_of(lambda message, context: message), 1)
    with pytest.raises(RunError, match=r"2 nodes are needed, 1 joined within 0.05 s"):
        exchange.wait_for_nodes(2, 0.05)
    assert time.monotonic() - began < 5


def test_a_server_app_runs_its_work_with_an_exchange_and_raises_its_errors() -> None:
    found: list[Reply] = []

    def work(exchange: GridExchange, context: Context) -> None:
        found.extend(
            exchange.ask("train", dict.fromkeys(exchange.wait_for_nodes(2, 1), b"x"), 1, 1.0)
        )
        raise RunError("the end")

    app = app_of(lambda message, context: reply(message, b"%d" % context.node_id))
    with pytest.raises(RunError, match="the end"):
        run_in_process(make_server_app(work), app, {1: {}, 2: {}})
    assert found == [Reply(1, b"1"), Reply(2, b"2")]


def test_flowers_grid_still_has_the_methods_that_we_use() -> None:
    assert {"get_node_ids", "send_and_receive"} <= Grid.__abstractmethods__
