"""Flower's side of the coordinator: bytes to nodes and bytes back, over any ``Grid``.

All use of Flower's unstable internals in this package is here; tests/server/test_flower.py holds
the contract.
"""

import time
from collections.abc import Callable, Iterator, Mapping

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from cloister_server.exchange import Exchange, Reply
from cloister_shared.errors import RunError
from cloister_shared.messages import (
    BODY_KEY,
    MESSAGE_TYPES,
    RECEIPTS_KEY,
    RECORD_KEY,
    SIGNATURE_KEY,
    Question,
)
from cloister_shared.requests import sign_request
from cloister_shared.signing import SigningKey

POLL_S = 0.2
"""Seconds between looks for nodes that have not joined yet."""


class GridExchange:
    """An :class:`Exchange` over a Flower ``Grid``; requests are signed with ``key``.

    In a simulation there is no key: nobody is between the coordinator and its nodes.
    """

    def __init__(self, grid: Grid, key: SigningKey | None = None) -> None:
        self._grid = grid
        self._key = key

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        """Poll the grid: Flower's own sampling waits for ever when too few nodes join."""
        end = time.monotonic() + deadline_s
        while len(nodes := sorted(self._grid.get_node_ids())) < count:
            if time.monotonic() >= end:
                raise RunError(
                    f"{count} nodes are needed, {len(nodes)} joined within {deadline_s:g} s"
                )
            time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
        return nodes

    def ask(
        self,
        question: Question,
        bodies: Mapping[int, bytes],
        round_number: int,
        deadline_s: float,
        receipts: bytes = b"",
    ) -> Iterator[Reply]:
        """One message to each node; those with the same body share their content, sent once."""
        contents = {body: self._content(body, receipts) for body in set(bodies.values())}
        messages = [
            Message(contents[body], node, MESSAGE_TYPES[question], group_id=str(round_number))
            for node, body in bodies.items()
        ]
        return map(_reply, self._grid.send_and_receive(messages, timeout=deadline_s))

    def _content(self, body: bytes, receipts: bytes) -> RecordDict:
        record = ConfigRecord({BODY_KEY: body})
        if receipts:
            record[RECEIPTS_KEY] = receipts
        if self._key is not None:
            record[SIGNATURE_KEY] = sign_request(body, self._key)
        return RecordDict({RECORD_KEY: record})


def _reply(message: Message) -> Reply:
    sender = message.metadata.src_node_id
    if message.has_error():
        return Reply(sender, None, f"transport error {message.error.code}")
    record = message.content.config_records.get(RECORD_KEY)
    body = None if record is None else record.get(BODY_KEY)
    if not isinstance(body, bytes):
        return Reply(sender, None, "a reply without a body")
    return Reply(sender, body)


def make_server_app(run: Callable[[Exchange, Context], None]) -> ServerApp:
    """A ServerApp whose whole work is ``run``; the same under every Flower engine."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run(GridExchange(grid), context)

    return app
