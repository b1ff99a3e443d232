"""One exchange with many nodes: who is silent, whose reply is under way, whom to ask anew and when.

Flower announces a reply once, when its node has named the parts, whether they are there or not. A
node may announce and hold back. So nobody is waited for: whatever was announced is tried at every
look, and who has not sent all parts in the end is as good as silent.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

from cloister_server.reply_form import error_message, inflated
from cloister_shared.messages import MOST_PARTS

LONGEST_REST_S = 1.0
"""Between two looks for replies, whether nodes have sent anything or not."""
REST_SHARE = 2.0
"""Between two looks, in the time that the last one took: whoever sends much, or many together, do
not keep the link from its work."""
LAST_LOOK_S = 0.1
"""So long before the deadline is the last look: after it, Flower has forgotten the replies."""
RESEND_S = 10.0
"""Who is silent for twice the time that the slowest answer took, and so long, is asked anew."""
RESEND_SHARE = 1 / 3
"""Silent nodes are asked anew after this share of the exchange's time, however slow one was."""
RETURN_S = 8.0
"""How long a node has to come back that Flower holds for dead: perhaps it was the link that was."""
FORGET_S = 30.0
"""How long a link that is away is waited for after the deadline, to be told what is unwanted."""
KEPT_ANSWERS = 2
"""Of one node, that were announced and are not whole: a node may be at the one before the last."""


class Post(Protocol):
    """What carries messages to nodes and back. ``end`` is when to give up (monotonic seconds)."""

    most_bytes: int
    """So many bytes a reply may have, all its parts together."""
    slowest_s: float
    """What the slowest answer to a first question took until now."""

    def ask(self, messages: Iterable[Message], end: float) -> list[str]:
        """Send messages; their ids in this order."""

    def look(self, identifiers: Iterable[str], end: float) -> list[tuple[ProtoMessage, ObjectTree]]:
        """Replies to these messages that were announced since the last look, each once."""

    def part(self, identifier: str, end: float) -> bytes:
        """One part of a reply; empty if it is not there."""

    def forget(self, identifier: str, end: float) -> None:
        """Give up the parts of a reply that was taken or is not wanted, or of a question."""

    def wait(self, within_s: float) -> None:
        """Return once nodes have sent anything since the last time, or when the time is over."""


@dataclass
class _Announced:
    """A reply of ``node`` with the id ``message``, of which parts may be missing still."""

    node: int
    message: str
    parts: list[str]
    _seen: set[str] = field(default_factory=set)

    def fetched(self, post: Post, end: float) -> dict[str, bytes] | None:
        """All its parts; ``None`` while one of them is missing.

        Parts that were never there are asked for first, and nothing is kept from look to look: so a
        reply costs one question a look, twice its bytes in all, and memory only once it is whole.
        Raises ``_TooLongError`` as soon as it has more bytes than one may have.
        """
        found: dict[str, bytes] = {}
        left = post.most_bytes
        for one in sorted(self.parts, key=self._seen.__contains__):
            content = post.part(one, end)
            if not content:
                self._seen.discard(one)
                return None
            left -= len(content)
            if left < 0:
                raise _TooLongError
            self._seen.add(one)
            found[one] = content
        return found


class _TooLongError(Exception):
    """A reply has more bytes than one may have."""


class RoundTrip:
    """Asks each of ``messages`` for one reply, for ``timeout_s`` seconds."""

    def __init__(self, post: Post, messages: list[Message], timeout_s: float) -> None:
        self._post = post
        self._silent = {one.metadata.dst_node_id: one for one in messages}
        self._began = time.monotonic()
        self._end = self._began + timeout_s
        latest_s = RESEND_SHARE * timeout_s
        self._patience_s = max(RESEND_S, min(2 * post.slowest_s or latest_s, latest_s))
        self._asked: dict[str, int] = {}
        self._questions: dict[int, list[str]] = {}
        self._announced: list[_Announced] = []
        self._again: dict[int, float] = {}
        self._given_up: set[int] = set()
        self._anew: set[int] = set()
        self._looked_s = 0.0

    def replies(self) -> Iterator[Message]:
        """One reply or error of the transport from each node, as they come."""
        self._ask(list(self._silent))
        is_over = False
        while self._silent and not is_over:
            is_over = time.monotonic() >= self._end - LAST_LOOK_S
            yield from self._looked()
            if self._silent and not is_over:
                self._ask_anew()
                self._rest()
        left = [one.message for one in self._announced]
        for unwanted in chain(left, *self._questions.values()):
            self._post.forget(unwanted, time.monotonic() + FORGET_S)

    def _ask(self, nodes: list[int]) -> None:
        identifiers = self._post.ask([self._message(node) for node in nodes], self._end)
        for identifier, node in zip(identifiers, nodes, strict=True):
            self._asked[identifier] = node
            self._questions.setdefault(node, []).append(identifier)
        self._again |= dict.fromkeys(nodes, time.monotonic() + self._patience_s)

    def _ask_anew(self) -> None:
        now = time.monotonic()
        silent = [node for node in self._silent if self._again[node] <= now]
        self._anew.update(silent)
        self._ask(silent)

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

    def _looked(self) -> Iterator[Message]:
        """What one look brings: errors at once, and of what was announced all that is whole."""
        began = time.monotonic()
        waiting = [one for one, node in self._asked.items() if node in self._silent]
        found = self._post.look(waiting, self._end)
        self._looked_s = time.monotonic() - began
        for proto, tree in found:
            error = self._heard(proto, tree)
            if error is not None:
                yield error
        for one in list(self._announced):
            reply = self._taken(one)
            if reply is not None:
                yield reply

    def _heard(self, proto: ProtoMessage, tree: ObjectTree) -> Message | None:
        """Note an announced reply, if it is to a message of ours; an error of the link at once.

        Every message of ours is answered once, whoever announces how much.
        """
        node = self._asked.pop(proto.metadata.reply_to_message_id, None)
        if node is None or node not in self._silent:
            return None
        if proto.HasField("error"):
            return self._failed(node, proto.error.code)
        now, message = time.monotonic(), proto.metadata.message_id
        parts = [part.object_id for part in islice(iterate_object_tree(tree), MOST_PARTS + 1)]
        self._announced.append(_Announced(node, message, parts))
        self._give_up_all_but_the_newest(node)
        self._again[node] = now + self._patience_s
        return None

    def _give_up_all_but_the_newest(self, node: int) -> None:
        """Each answer that is held back costs a question at every look."""
        for one in [one for one in self._announced if one.node == node][:-KEPT_ANSWERS]:
            self._announced.remove(one)
            self._post.forget(one.message, self._end)

    def _failed(self, node: int, code: int) -> Message | None:
        """The error in place of a reply; ``None`` if the node may answer yet."""
        if code == ErrorCode.MESSAGE_UNAVAILABLE:
            return None  # its time is over, or the link has forgotten it
        if code == ErrorCode.NODE_UNAVAILABLE and node not in self._given_up:
            self._given_up.add(node)
            self._again[node] = time.monotonic() + RETURN_S
            return None
        return self._settled(node, error_message(code))

    def _taken(self, one: _Announced) -> Message | None:
        """The reply, if it is whole and its node's first.

        What is no message, or is too much, is an error of the transport: its sender is named.
        """
        if one.node in self._silent:
            reply = self._read(one)
            if reply is None:
                return None
            reply = self._settled(one.node, reply)
        else:
            reply = None
        self._announced.remove(one)
        self._post.forget(one.message, self._end)
        return reply

    def _read(self, one: _Announced) -> Message | None:
        if len(one.parts) > MOST_PARTS:
            return error_message(ErrorCode.UNKNOWN)
        began = time.monotonic()
        try:
            parts = one.fetched(self._post, self._end)
        except _TooLongError:
            return error_message(ErrorCode.UNKNOWN)
        if parts is None:
            self._looked_s += time.monotonic() - began
            return None
        return inflated(one.message, parts) or error_message(ErrorCode.UNKNOWN)

    def _settled(self, node: int, reply: Message) -> Message:
        """The node's reply, which bears its id whatever it says of itself.

        What it was asked is forgotten. Content that others were asked with stays at the link: they
        may be asked anew, and nobody else can name its parts before they are there.
        """
        del self._silent[node]
        for question in self._questions.pop(node):
            self._post.forget(question, self._end)
        if node not in self._anew:
            self._post.slowest_s = max(self._post.slowest_s, time.monotonic() - self._began)
        reply.metadata.__dict__["_src_node_id"] = node
        return reply

    def _rest(self) -> None:
        """Until nodes have sent something, but never past the last look."""
        last = min(time.monotonic() + LONGEST_REST_S, self._end - LAST_LOOK_S)
        _sleep_until(min(last, time.monotonic() + REST_SHARE * self._looked_s))
        self._post.wait(max(0.0, last - time.monotonic()))


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
