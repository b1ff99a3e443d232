"""Flower's side of the coordinator: bytes to nodes and bytes back, over any ``Grid``.

All use of Flower's unstable internals in this package is here; tests/server/test_flower.py holds
the contract.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

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
    TERMS_KEY,
    Question,
)
from cloister_shared.requests import SignedTerms, sign_request
from cloister_shared.signing import SigningKey

POLL_S = 0.2
"""Seconds between looks for nodes that have not joined yet."""
SLACK_S = 5.0
"""Seconds after an exchange's deadline at which its requests end: clocks are told in whole ones."""


@dataclass(frozen=True)
class Signer:
    """Signs requests with ``key``; ``names`` knows the approved nodes among Flower's ids."""

    key: SigningKey
    names: Callable[[Iterable[int]], Mapping[int, str]]

    def terms(self, body: bytes, nodes: Collection[str], deadline_s: float) -> SignedTerms:
        """What goes beside ``body`` to ``nodes``, which have until the deadline from now on."""
        return sign_request(body, nodes, math.ceil(time.time() + deadline_s + SLACK_S), self.key)


class GridExchange:
    """An :class:`Exchange` over a Flower ``Grid``; requests are signed by ``signer``.

    In a simulation there is none: nobody is between the coordinator and its nodes.
    """

    def __init__(self, grid: Grid, signer: Signer | None = None) -> None:
        self._grid = grid
        self._signer = signer

    def wait_for_nodes(self, count: int, deadline_s: float) -> list[int]:
        """Poll the grid: Flower's own sampling waits for ever when too few nodes join.

        Where requests are signed, only approved nodes count: Flower holds others for there, too.
        """
        end = time.monotonic() + deadline_s
        while len(nodes := self._there()) < count:
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
        """One message to each node; those with the same body share their content, sent once.

        Where requests are signed, a node that is not approved, any more or yet, is not asked.
        """
        messages = [
            Message(content, node, MESSAGE_TYPES[question], group_id=str(round_number))
            for content, nodes in self._contents(bodies, receipts, deadline_s)
            for node in nodes
        ]
        return map(_reply, self._grid.send_and_receive(messages, timeout=deadline_s))

    def _there(self) -> list[int]:
        nodes = self._grid.get_node_ids()
        return sorted(nodes if self._signer is None else self._signer.names(nodes))

    def _contents(
        self, bodies: Mapping[int, bytes], receipts: bytes, deadline_s: float
    ) -> Iterator[tuple[RecordDict, list[int]]]:
        """What is sent, and to whom: all that have a body in common have its terms in common."""
        names = self._signer.names(bodies) if self._signer else dict.fromkeys(bodies, "")
        nodes_of: dict[bytes, list[int]] = {}
        for node, body in bodies.items():
            if node in names:
                nodes_of.setdefault(body, []).append(node)
        for body, nodes in nodes_of.items():
            record = ConfigRecord({BODY_KEY: body})
            if receipts:
                record[RECEIPTS_KEY] = receipts
            if self._signer is not None:
                terms = self._signer.terms(body, [names[node] for node in nodes], deadline_s)
                record[TERMS_KEY], record[SIGNATURE_KEY] = terms.document, terms.signature
            yield RecordDict({RECORD_KEY: record}), nodes


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
