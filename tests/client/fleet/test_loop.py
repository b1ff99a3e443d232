"""The node's loop: whom it answers, what it refuses by name, what it survives."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flwr.app import Metadata
from flwr.proto.message_pb2 import ObjectTree

from cloister_client.fleet import pauses as pauses_module
from cloister_client.fleet.link import Envelope
from cloister_client.fleet.loop import GRACE_S, Checks, FleetLoop
from cloister_client.fleet.messages import CRASHED, Bundle, LostError, Question, ShutOutError
from cloister_client.fleet.pauses import BUSY_POLL_S, BUSY_S, IDLE_POLL_S, TELL_S, Losses, Polls
from cloister_client.fleet.trainer import TrainerDied, TrainerHung
from cloister_shared import patience
from cloister_shared.bundles import RUN_KEY
from cloister_shared.journal import Event, Journal, read
from cloister_shared.messages import Refusal, is_authentic, unpack
from cloister_shared.requests import LATEST, sign_request
from cloister_shared.signing import SigningKey

COORDINATOR, NODE = SigningKey.generate(), SigningKey.generate()
CONTENT = b"the bundle"
ACCEPTED = {"1.0": hashlib.sha256(CONTENT).hexdigest()}
NOW = 1_000_000
GOOD = Bundle(CONTENT, ACCEPTED["1.0"], {RUN_KEY: "autumn"})


def question(
    body: bytes,
    key: SigningKey = COORDINATOR,
    nodes: tuple[str, ...] = ("elm", "oak"),
    until: int = NOW + 60,
) -> Question:
    return Question(body, b"receipts", sign_request(body, nodes, until, key))


def envelope(kind: str = "train.round", run: int = 7, group: str = "3") -> Envelope:
    metadata = Metadata(run, "id", 1, 2, "", group, 0.0, 60.0, kind)
    return Envelope(metadata, ObjectTree())


@dataclass
class MemoryLink:
    """A coordinator in memory: messages with their questions, and whatever was said to them."""

    waiting: list[tuple[Envelope, Question]]
    bundles: Callable[[int], Bundle] = lambda number: GOOD
    errors: list[Exception] = field(default_factory=list)
    """Raised, one after the other, by looks for messages."""
    replies: list[bytes] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    opened: int = 0
    asked_for: list[int] = field(default_factory=list)
    connections: int = 0
    empty: threading.Event = field(default_factory=threading.Event)
    clock_offset_s: float = 0.0
    node_id: int = 2

    def now(self) -> float:
        return NOW

    def connect(self) -> None:
        self.connections += 1

    def beat(self, wait) -> None:
        wait(60.0)

    def pull(self) -> Envelope | None:
        if self.errors:
            raise self.errors.pop(0)
        if not self.waiting:
            self.empty.set()
            return None
        return self.waiting[0][0]

    def bundle(self, run: int) -> Bundle:
        self.asked_for.append(run)
        return self.bundles(run)

    def open(self, envelope: Envelope) -> Question:
        self.opened += 1
        return self.waiting[0][1]

    def reply(self, envelope: Envelope, body: bytes) -> None:
        self.waiting.pop(0)
        self.replies.append(body)

    def fail(self, envelope: Envelope, code: int) -> None:
        self.waiting.pop(0)
        self.failures.append(code)


DEATHS = {b"die": TrainerDied, b"hang": TrainerHung}


@dataclass
class Echo:
    """A trainer that says what it was asked; dies or hangs over what is called so."""

    asked: list[tuple[str, tuple[bytes, ...]]] = field(default_factory=list)
    within_s: list[float] = field(default_factory=list)

    def ask(self, action: str, frames: tuple[bytes, ...], within_s: float) -> bytes:
        if frames[0] in DEATHS:
            raise DEATHS[frames[0]](-9)
        self.asked.append((action, frames))
        self.within_s.append(within_s)
        return b"answer to " + frames[0]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.001)
    monkeypatch.setattr("cloister_client.fleet.loop._SHUT_OUT_S", 0.001)
    monkeypatch.setattr("cloister_client.fleet.pauses.LOST_FIRST_S", 0.001)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "fleet.jsonl"


def run(link: MemoryLink, journal: Path) -> Echo:
    """The loop until there is nothing left to answer."""
    trainer = Echo()
    checks = Checks(COORDINATOR.public, "oak", NODE, ACCEPTED)
    loop = FleetLoop(link, trainer, checks, Journal(journal))
    thread = threading.Thread(target=loop.run)
    thread.start()
    assert link.empty.wait(10)
    loop.stop()
    thread.join(10)
    assert not thread.is_alive()
    return trainer


def refusal(link: MemoryLink) -> str:
    """The code of the one refusal that was sent, whose signature is checked."""
    [body] = link.replies
    header, arrays = unpack(body, Refusal)
    assert is_authentic(header, arrays)
    assert (header.node, header.key) == ("oak", NODE.public)
    return header.code


def refused(journal: Path) -> list[object]:
    return [entry.get("code") for entry in read(journal, 99) if entry["event"] == Event.REFUSED]


def test_each_kind_of_request_reaches_the_trainer_with_its_frames(journal: Path) -> None:
    kinds = ("train.round", "evaluate.metrics", "query.release")
    link = MemoryLink([(envelope(kind), question(kind.encode())) for kind in kinds])
    trainer = run(link, journal)
    assert trainer.asked == [
        ("train", (b"train.round", b"receipts")),
        ("evaluate", (b"evaluate.metrics", b"receipts")),
        ("release", (b"query.release",)),
    ]
    assert link.replies == [b"answer to " + kind.encode() for kind in kinds]
    [entry, *_] = [one for one in read(journal, 99) if one["event"] == Event.ANSWERED]
    assert (entry["run"], entry["round"], entry["action"]) == ("autumn", 3, "train")


def test_a_runs_bundle_is_asked_for_once(journal: Path) -> None:
    link = MemoryLink([(envelope(run=one), question(b"x")) for one in (7, 7, 8, 7)])
    run(link, journal)
    assert link.asked_for == [7, 8]


@pytest.mark.parametrize(
    ("bundle", "code"),
    [
        (Bundle(b"with code in it", hashlib.sha256(b"with code in it").hexdigest(), {}), "bundle"),
        (Bundle(b"with code in it", ACCEPTED["1.0"], {RUN_KEY: "autumn"}), "bundle"),
        (Bundle(CONTENT, ACCEPTED["1.0"], {RUN_KEY: "autumn", "epsilon": 9}), "settings"),
        (Bundle(CONTENT, ACCEPTED["1.0"], {RUN_KEY: "/etc/passwd"}), "settings"),
    ],
)
def test_a_run_that_was_not_started_as_ours_are_is_refused_before_its_message_is_fetched(
    bundle: Bundle, code: str, journal: Path
) -> None:
    link = MemoryLink([(envelope(), question(b"x"))], lambda number: bundle)
    trainer = run(link, journal)
    assert (refusal(link), link.opened, trainer.asked) == (code, 0, [])
    assert refused(journal) == [code]


def test_a_message_that_nobody_knows_is_refused_unopened(journal: Path) -> None:
    link = MemoryLink([(envelope("query.shell"), question(b"x"))])
    assert (run(link, journal).asked, refusal(link), link.opened) == ([], "message", 0)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Question(b"train"), "signature"),
        (question(b"train", SigningKey.generate()), "signature"),
        (Question(b"altered", b"", question(b"train").signed), "signature"),
        (question(b"train", nodes=("elm",)), "recipient"),
        (question(b"train", until=NOW - 1), "expired"),
    ],
    ids=["unsigned", "another coordinator's", "altered", "another node's", "an old one"],
)
def test_a_request_that_is_not_the_coordinators_to_this_node_now_is_refused_unparsed(
    asked: Question, code: str, journal: Path
) -> None:
    link = MemoryLink([(envelope(), asked)])
    assert (run(link, journal).asked, refusal(link)) == ([], code)
    assert refused(journal) == [code]


def test_the_trainer_has_the_requests_time_and_some_more(journal: Path) -> None:
    hostile = question(b"for ever", until=LATEST)
    link = MemoryLink([(envelope(), question(b"train")), (envelope(), hostile)])
    assert run(link, journal).within_s == [60 + GRACE_S, 86_400 + GRACE_S]


@pytest.mark.parametrize(("body", "code"), [(b"die", "crashed"), (b"hang", "hung")])
def test_the_loop_goes_on_after_its_trainer_died(body: bytes, code: str, journal: Path) -> None:
    link = MemoryLink([(envelope(), question(body)), (envelope(), question(b"train"))])
    run(link, journal)
    assert (link.failures, link.replies) == ([CRASHED], [b"answer to train"])
    assert refused(journal) == [code]


def test_the_loop_survives_a_link_that_is_away(journal: Path) -> None:
    away = [httpx.ConnectError("down"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("?")]
    link = MemoryLink([(envelope(), question(b"train"))], errors=[*away, http_error(503)])
    run(link, journal)
    assert link.replies == [b"answer to train"]
    events = [entry["event"] for entry in read(journal, 99)]
    assert events[:4] == [
        Event.CONNECTED,
        Event.DISCONNECTED,
        Event.DISCONNECTED,
        Event.CONNECTED,
    ]


def test_a_node_that_is_shut_out_connects_again_when_it_is_let_in(journal: Path) -> None:
    link = MemoryLink([(envelope(), question(b"train"))], errors=[ShutOutError("revoked")])
    run(link, journal)
    assert (link.connections, link.replies) == (2, [b"answer to train"])
    codes = [one.get("code") for one in read(journal, 99) if one["event"] == Event.DISCONNECTED]
    assert codes == ["shut_out"]


def test_a_message_that_was_withdrawn_is_left(journal: Path) -> None:
    link = MemoryLink([(envelope(), question(b"train"))], errors=[LostError("withdrawn")])
    run(link, journal)
    assert link.replies == [b"answer to train"]
    assert refused(journal) == ["lost"]


def test_a_coordinator_that_answers_nonsense_keeps_no_node_busy_and_fills_no_journal(
    journal: Path,
) -> None:
    nonsense = [LostError("nonsense") for _ in range(9)]
    link = MemoryLink([(envelope(), question(b"train"))], errors=[*nonsense])
    run(link, journal)
    assert link.replies == [b"answer to train"]
    assert refused(journal) == ["lost"]


def test_after_lost_messages_the_pauses_grow_until_one_is_answered() -> None:
    losses = Losses()
    pauses = [losses.pause_s() for _ in range(20)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (pauses_module.LOST_FIRST_S, pauses_module.LOST_LONGEST_S)
    losses.none()
    assert losses.pause_s() == pauses[0]


def test_lost_messages_are_told_of_now_and_then() -> None:
    losses = Losses()
    told = [losses.is_news(float(second)) for second in range(0, int(3 * TELL_S), 5)]
    assert sum(told) == 3
    assert told[0]


def test_what_a_message_calls_itself_finds_no_way_into_the_journal(journal: Path) -> None:
    hostile = envelope("query.lovelace", group='ada "lovelace')
    run(MemoryLink([(hostile, question(b"x"))]), journal)
    assert b"lovelace" not in journal.read_bytes()


def test_polls_are_quick_while_messages_come_and_slow_when_none_do() -> None:
    polls = Polls()
    polls.busy(100.0)
    assert polls.pause_s(100.1, 0.0) <= BUSY_POLL_S
    assert polls.pause_s(100.0 + BUSY_S - 0.1, 0.0) <= BUSY_POLL_S
    pauses = [polls.pause_s(100.0 + BUSY_S + one, 0.0) for one in range(20)]
    assert pauses[0] <= 1.5 * BUSY_POLL_S
    assert 0.75 * IDLE_POLL_S <= pauses[-1] <= IDLE_POLL_S
    polls.busy(200.0)
    assert polls.pause_s(200.0, 0.0) <= BUSY_POLL_S


def test_polls_of_a_coordinator_that_is_busy_are_seldom() -> None:
    polls = Polls()
    polls.busy(100.0)
    assert 0.75 * 0.6 <= polls.pause_s(100.1, 0.3) <= 0.6
    assert polls.pause_s(100.1, 0.9 * IDLE_POLL_S) <= IDLE_POLL_S


def test_after_a_look_that_was_held_the_next_one_comes_at_once() -> None:
    assert Polls().pause_s(100.0, IDLE_POLL_S) == 0.0


def http_error(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://coordinator.example.org")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(status))
