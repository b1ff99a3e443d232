"""One exchange with nodes that hold back what they announced, announce too much, or die: no link.

Whole rounds over a link are in tests/server/test_held_back.py and tests/client/fleet/test_link.py.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)

from cloister_server import round_trip
from cloister_server.round_trip import KEPT_ANSWERS, RoundTrip
from cloister_shared.messages import MOST_PARTS

pytestmark = pytest.mark.usefixtures("flower_task")

TIME_S = 60.0
SOON_S = 20.0
"""Far less than the whole time, and long enough for a machine that has other work."""


def question(node: int) -> Message:
    return Message(RecordDict({"cloister": ConfigRecord({"body": b"question"})}), node, "train")


@dataclass
class MemoryPost:
    """A link in memory: what nodes announce is found at the next look, and then never again."""

    most_bytes: int = 10_000
    slowest_s: float = 0.0
    asked: list[int] = field(default_factory=list)
    parts: dict[str, bytes] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    forgotten: list[str] = field(default_factory=list)
    found: list[tuple[ProtoMessage, ObjectTree]] = field(default_factory=list)
    held: dict[str, bytes] = field(default_factory=dict)
    longest_wait_s: float = 0.01
    on_asked: Callable[[str, int], None] = lambda identifier, node: None
    on_look: Callable[[], None] = lambda: None

    def ask(self, messages: Iterable[Message], end: float) -> list[str]:
        identifiers = []
        for one in messages:
            node = one.metadata.dst_node_id
            identifiers.append(f"question {len(self.asked)}")
            self.asked.append(node)
            self.on_asked(identifiers[-1], node)
        return identifiers

    def look(self, identifiers: Iterable[str], end: float) -> list[tuple[ProtoMessage, ObjectTree]]:
        self.on_look()
        known = set(identifiers)
        found, self.found = self.found, []
        return [one for one in found if one[0].metadata.reply_to_message_id in known]

    def part(self, identifier: str, end: float) -> bytes:
        self.taken[identifier] += 1
        return self.parts.get(identifier, b"")

    def forget(self, identifier: str, end: float) -> None:
        self.forgotten.append(identifier)

    @property
    def forgotten_questions(self) -> list[str]:
        return [one for one in self.forgotten if one.startswith("question ")]

    @property
    def forgotten_answers(self) -> list[str]:
        return [one for one in self.forgotten if not one.startswith("question ")]

    def wait(self, within_s: float) -> None:
        time.sleep(min(within_s, self.longest_wait_s))

    def announce(self, reply_to: str, body: bytes, *, hold: Callable[[str], bool]) -> list[str]:
        """Announce an honest reply, but hold some of its parts back; ids of all parts."""
        content = RecordDict({"cloister": ConfigRecord({"body": body})})
        message = Message(content, reply_to=_received(reply_to))
        objects, tree = get_all_nested_objects(message), get_object_tree(message)
        metadata = Metadata(message_id=message.object_id, reply_to_message_id=reply_to)
        self.found.append((ProtoMessage(metadata=metadata), tree))
        names = [one.object_id for one in iterate_object_tree(tree)]
        held = {name for name in names if hold(name)}
        self.parts |= {name: objects[name].deflate() for name in names if name not in held}
        self.held = {name: objects[name].deflate() for name in held}
        return names


def _received(identifier: str) -> Message:
    """A message as a node has it."""
    message = question(7)
    message.metadata.__dict__["_message_id"] = identifier
    return message


def nothing(name: str) -> bool:
    return False


def everything(name: str) -> bool:
    return True


def body_of(message: Message) -> bytes:
    return bytes(message.content.config_records["cloister"]["body"])


def trip(post: MemoryPost, *nodes: int, seconds: float = TIME_S) -> Iterator[Message]:
    return RoundTrip(post, [question(node) for node in nodes], seconds).replies()


def test_a_reply_that_is_held_back_makes_nobody_elses_late() -> None:
    post = MemoryPost()

    def answer(identifier: str, node: int) -> None:
        post.announce(identifier, b"%d" % node, hold=everything if node < 20 else nothing)

    post.on_asked = answer
    began = time.monotonic()
    replies = trip(post, *range(1, 21))
    assert body_of(next(replies)) == b"20"
    assert time.monotonic() - began < SOON_S
    assert max(post.taken.values()) <= 2, "what is missing is asked for once a look"


def test_what_is_complete_at_the_deadline_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the last one there is none here."""
    monkeypatch.setattr(round_trip, "LONGEST_REST_S", TIME_S)
    post, looks = MemoryPost(longest_wait_s=TIME_S), []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) == 2:
            post.parts |= post.held

    post.on_look = look
    post.on_asked = lambda identifier, node: post.announce(identifier, b"late", hold=everything)
    assert [body_of(one) for one in trip(post, 1, seconds=0.5)] == [b"late"]
    assert looks == [0, 1]


def test_a_reply_in_pieces_is_carried_twice_at_the_most() -> None:
    post, looks = MemoryPost(), []
    post.on_asked = lambda identifier, node: post.announce(identifier, b"body", hold=everything)

    def look() -> None:
        looks.append(None)
        if len(looks) % 3 == 0 and post.held:
            post.parts.update([post.held.popitem()])

    post.on_look = look
    carried: Counter[str] = Counter()
    part = post.part

    def counted(identifier: str, end: float) -> bytes:
        content = part(identifier, end)
        carried[identifier] += bool(content)
        return content

    post.part = counted  # type: ignore[method-assign]
    (reply,) = trip(post, 1)
    assert body_of(reply) == b"body"
    assert max(carried.values()) <= 2


def test_a_reply_of_too_many_bytes_is_an_error_and_no_more_of_it_is_taken() -> None:
    post = MemoryPost(most_bytes=1000)
    parts = [f"part {number}" for number in range(10)]

    def answer(identifier: str, node: int) -> None:
        children = [ObjectTree(object_id=one) for one in parts]
        metadata = Metadata(message_id="reply", reply_to_message_id=identifier)
        post.found.append(
            (ProtoMessage(metadata=metadata), ObjectTree(object_id="reply", children=children))
        )
        post.parts = dict.fromkeys([*parts, "reply"], bytes(400))

    post.on_asked = answer
    (reply,) = trip(post, 1)
    assert reply.has_error()
    assert reply.metadata.src_node_id == 1
    assert sum(post.taken.values()) == 3
    assert post.forgotten_answers == ["reply"]


def test_a_reply_in_endless_parts_is_an_error_and_none_of_it_is_taken() -> None:
    post = MemoryPost()

    def answer(identifier: str, node: int) -> None:
        children = [ObjectTree(object_id=str(one)) for one in range(MOST_PARTS)]
        metadata = Metadata(message_id="reply", reply_to_message_id=identifier)
        tree = ObjectTree(object_id="reply", children=children)
        post.found.append((ProtoMessage(metadata=metadata), tree))

    post.on_asked = answer
    (reply,) = trip(post, 1)
    assert reply.has_error()
    assert not post.taken


def test_of_ten_thousand_announcements_one_is_looked_at() -> None:
    post = MemoryPost()

    def answer(identifier: str, node: int) -> None:
        if node == 1:
            for number in range(10_000):
                metadata = Metadata(message_id=f"{number}", reply_to_message_id=identifier)
                tree = ObjectTree(object_id=f"{number}")
                post.found.append((ProtoMessage(metadata=metadata), tree))
        else:
            post.announce(identifier, b"honest", hold=nothing)

    post.on_asked = answer
    assert body_of(next(trip(post, 1, 2))) == b"honest"
    assert {one for one in post.taken if one.isdigit()} == {"0"}


def test_an_announcement_to_no_message_of_ours_is_dropped() -> None:
    post = MemoryPost()
    metadata = Metadata(message_id="reply", reply_to_message_id="")
    post.on_look = lambda: post.found.append(
        (ProtoMessage(metadata=metadata), ObjectTree(object_id="reply"))
    )
    assert list(trip(post, 1, seconds=0.3)) == []
    assert not post.taken


def test_who_died_while_it_sent_its_parts_is_asked_anew_and_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_trip, "RESEND_S", 0.1)
    post = MemoryPost(slowest_s=0.01)
    announced: list[list[str]] = []

    def answer(identifier: str, node: int) -> None:
        is_first = len(announced) == 0
        announced.append(
            post.announce(identifier, b"same", hold=everything if is_first else nothing)
        )

    post.on_asked = answer
    assert [body_of(one) for one in trip(post, 1)] == [b"same"]
    assert post.asked == [1, 1]
    roots = {names[-1] for names in announced}
    assert set(post.forgotten_answers) == roots, (
        "what is under way of the first is not wanted any more"
    )


def test_what_is_not_whole_in_the_end_is_silence_and_is_thrown_away() -> None:
    post = MemoryPost()
    post.on_asked = lambda identifier, node: post.announce(identifier, b"never", hold=everything)
    assert list(trip(post, 1, seconds=0.3)) == []
    assert len(post.forgotten_answers) == 1
    assert post.forgotten_questions == ["question 0"]


def test_what_was_asked_is_forgotten_once_it_is_answered() -> None:
    """Whoever is silent may be asked anew with the same content: it stays with their question."""
    post = MemoryPost()

    def answer(identifier: str, node: int) -> None:
        post.announce(identifier, b"soon", hold=everything if node == 1 else nothing)

    post.on_asked = answer
    replies = trip(post, 1, 2, seconds=0.5)
    assert body_of(next(replies)) == b"soon"
    assert post.forgotten_questions == ["question 1"]
    assert list(replies) == []
    assert post.forgotten_questions == ["question 1", "question 0"]


def test_of_a_nodes_answers_that_are_held_back_the_newest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_trip, "RESEND_S", 0.05)
    post = MemoryPost(slowest_s=0.01)
    roots: list[str] = []

    def answer(identifier: str, node: int) -> None:
        roots.append(post.announce(identifier, b"never", hold=everything)[-1])
        left = len(roots) - len(post.forgotten_answers)
        assert left <= KEPT_ANSWERS + 1

    post.on_asked = answer
    assert list(trip(post, 1, seconds=1.5)) == []
    assert len(roots) > KEPT_ANSWERS + 1
    assert post.forgotten_answers == roots


def test_a_node_that_was_slow_on_purpose_keeps_nobody_from_being_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(round_trip, "RESEND_S", 0.1)
    post = MemoryPost(slowest_s=1e6)
    assert list(trip(post, 1, seconds=0.9)) == []
    assert len(post.asked) >= 2
