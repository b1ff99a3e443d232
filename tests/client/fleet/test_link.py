"""A node's link and the coordinator's grid over a SuperLink that is up: Flower's contract."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient
from tests.announcing import next_message
from tests.hosted import Keys, approve, hosted_with, make_coordinator, running

from cloister_client.fleet.link import HEARTBEAT_S, FleetLink
from cloister_client.fleet.messages import CRASHED, LostError, Question, ShutOutError
from cloister_server import round_trip as round_trips
from cloister_server.exchange import Reply
from cloister_server.flower import SLACK_S, GridExchange, Signer
from cloister_server.grid import Task, TaskLostError
from cloister_server.home import CoordinatorHome
from cloister_server.roll import Roll
from cloister_server.superlink import Control
from cloister_shared import __version__
from cloister_shared.bundles import RUN_KEY, check_bundle
from cloister_shared.errors import PolicyError
from cloister_shared.requests import check_request

OAK, ELM = Keys(), Keys()
MAX_BYTES = 2**20


@dataclass
class Up:
    """A link that is up, and a run over it."""

    home: CoordinatorHome
    folder: Path
    control: Control
    task: Task

    def link(self, keys: Keys = OAK, name: str = "oak", days: float = 0.0) -> FleetLink:
        """A node's link, on a machine whose clock is wrong by so many days."""
        return FleetLink(
            f"127.0.0.1:{self.home.config.port}",
            self.home.authority_pem().encode(),
            keys.transport,
            self.folder / name,
            max_bytes=MAX_BYTES,
            clock=lambda: datetime.now(UTC) + timedelta(days=days),
        )

    def node(self, keys: Keys) -> int:
        return self.control.nodes()[keys.pem]

    @property
    def signer(self) -> Signer:
        return Signer(self.home.signing_key(), Roll(self.home, self.control).names)

    def ask(self, body: bytes, *keys: Keys, seconds: float = 10.0) -> "Answers":
        """Ask these nodes in a thread of its own."""
        exchange = GridExchange(self.task.grid, self.signer)
        bodies = {self.node(one): body for one in keys}
        return Answers(lambda: list(exchange.ask("train", bodies, 3, seconds)))


class Answers(threading.Thread):
    """What comes back, once it is asked for."""

    def __init__(self, ask) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self.replies: list[Reply] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.replies = self._ask()
        except Exception as error:
            self.error = error

    def get(self) -> list[Reply]:
        self.join(30)
        assert self.error is None, self.error
        return self.replies


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    with hosted_with(tmp_path_factory.mktemp("coordinator"), oak=OAK, elm=ELM) as home:
        yield home


@pytest.fixture
def up(home: CoordinatorHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    # Nodes' ids are remembered from test to test: Flower holds them for online still.
    folder = home.path.parent
    with running(home) as (control, task):
        yield Up(home, folder, control, task)


def connected(up: Up, keys: Keys = OAK, name: str = "oak", days: float = 0.0) -> FleetLink:
    link = up.link(keys, name, days)
    link.connect()
    return link


def test_a_request_reaches_its_node_signed_and_the_answer_comes_back(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK)
    envelope = next_message(link)
    question = link.open(envelope)
    assert (envelope.kind, envelope.metadata.group_id) == ("train.round", "3")
    assert question.body == b"question"
    coordinator = up.home.signing_key().public
    until = check_request(question.body, question.signed, coordinator, "oak", link.now())
    assert 10.0 < until - link.now() < 10.0 + 2 * SLACK_S
    link.reply(envelope, b"answer")
    assert answers.get() == [Reply(up.node(OAK), b"answer")]


def test_the_bundle_that_a_run_was_started_with_is_this_releases(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK)
    envelope = next_message(link)
    bundle = link.bundle(envelope.run)
    assert check_bundle(bundle.content, bundle.claimed) == __version__
    assert bundle.settings == {RUN_KEY: "autumn"}
    link.reply(envelope, b"answer")
    answers.get()


def test_replies_come_one_by_one_and_their_content_is_sent_once(up: Up) -> None:
    oak, elm = connected(up), connected(up, ELM, "elm")
    exchange = GridExchange(up.task.grid, up.signer)
    bodies = dict.fromkeys((up.node(OAK), up.node(ELM)), b"same")
    replies = iter(exchange.ask("train", bodies, 1, 10.0))
    first = Answers(lambda: [next(replies)])
    envelopes = next_message(oak), next_message(elm)
    contents = [{one.object_id for one in each.parts.children} for each in envelopes]
    assert contents[0] == contents[1]
    oak.reply(envelopes[0], b"oak's")
    assert first.get() == [Reply(up.node(OAK), b"oak's")]
    elm.reply(envelopes[1], b"elm's")
    assert list(replies) == [Reply(up.node(ELM), b"elm's")]


def test_a_stranger_is_shut_out(up: Up) -> None:
    with pytest.raises(ShutOutError):
        up.link(Keys(), "stranger").connect()


def test_a_revoked_node_is_shut_out_at_once(up: Up) -> None:
    ash = Keys()
    approve(up.home, "ash", ash)
    up.control.register(ash.pem, "ash")
    link = connected(up, ash, "ash")
    assert link.pull() is None
    up.home.directory().revoke("ash")
    with pytest.raises(ShutOutError):
        link.pull()


@pytest.mark.parametrize("days", [1.0, -1.0])
def test_a_node_whose_clock_is_a_day_off_takes_part(up: Up, days: float) -> None:
    link = connected(up, days=days)
    assert abs(link.clock_offset_s + days * 86400) < 5
    answers = up.ask(b"question", OAK)
    envelope = next_message(link)
    question = link.open(envelope)
    coordinator = up.home.signing_key().public
    check_request(question.body, question.signed, coordinator, "oak", link.now())
    link.reply(envelope, b"answer")
    assert answers.get() == [Reply(up.node(OAK), b"answer")]


def test_a_request_that_was_handed_to_another_node_or_kept_is_known_for_it(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK, seconds=3.0)
    question = link.open(next_message(link))
    assert answers.get() == []
    about = question.body, question.signed, up.home.signing_key().public
    with pytest.raises(PolicyError) as handed_on:
        check_request(*about, "elm", link.now())
    with pytest.raises(PolicyError) as kept:
        check_request(*about, "oak", link.now() + 2 * SLACK_S)
    assert (handed_on.value.code, kept.value.code) == ("recipient", "expired")


def test_who_is_not_approved_any_more_is_not_asked(up: Up) -> None:
    fir = Keys()
    approve(up.home, "fir", fir)
    number = up.control.register(fir.pem, "fir")
    signer = up.signer
    assert signer.names([number]) == {number: "fir"}
    up.home.directory().revoke("fir")
    assert signer.names([number]) == {}
    exchange = GridExchange(up.task.grid, signer)
    assert list(exchange.ask("train", {number: b"question"}, 1, 60.0)) == []


def test_a_node_that_was_restarted_goes_on_at_once(up: Up) -> None:
    first = connected(up)
    again = connected(up)
    assert again.node_id == first.node_id
    answers = up.ask(b"question", OAK)
    envelope = next_message(again)
    again.open(envelope)
    again.reply(envelope, b"answer")
    assert answers.get()[0].body == b"answer"


def test_who_is_online_and_has_forgotten_its_id_waits_for_flower(up: Up) -> None:
    connected(up)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        up.link(OAK, "another file").connect()
    assert refused.value.response.status_code == httpx.codes.PRECONDITION_FAILED


def test_a_node_that_forgot_another_ones_id_is_activated_under_its_own(up: Up) -> None:
    (up.folder / "spoiled").write_text(str(up.node(ELM)))
    with pytest.raises(httpx.HTTPStatusError):
        up.link(OAK, "spoiled").connect()


def test_a_crashed_trainer_is_told_as_an_error_of_the_transport(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK)
    link.fail(next_message(link), CRASHED)
    assert answers.get() == [Reply(up.node(OAK), None, f"transport error {CRASHED}")]


def test_a_message_that_died_with_its_node_is_asked_again(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "RESEND_S", 0.3)
    up.task.grid.slowest_s = 0.1
    link = connected(up)
    answers = up.ask(b"question", OAK)
    lost = next_message(link)
    again = next_message(connected(up))
    assert again.metadata.message_id != lost.metadata.message_id
    assert link.open(again).body == b"question"
    link.reply(again, b"answer")
    assert answers.get() == [Reply(up.node(OAK), b"answer")]


def test_one_reply_of_a_node_counts(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_trips, "RESEND_S", 0.3)
    up.task.grid.slowest_s = 0.1
    oak, elm = connected(up), connected(up, ELM, "elm")
    answers = up.ask(b"question", OAK, ELM)
    first, second = next_message(oak), next_message(oak)
    oak.reply(first, b"once")
    oak.reply(second, b"twice")
    elm.reply(next_message(elm), b"elm's")
    assert len(answers.get()) == 2


def test_an_answer_after_the_deadline_is_dropped(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK, seconds=1.0)
    envelope = next_message(link)
    assert answers.get() == []
    time.sleep(0.2)
    with pytest.raises(LostError):
        link.reply(envelope, b"late")


def test_an_answer_that_was_cut_off_goes_on_where_it_was(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK)
    envelope = next_message(link)
    link.open(envelope)
    send, sent = FleetHttpClient.PushObject, []

    def cut_off(client: FleetHttpClient, request: PushObjectRequest) -> PushObjectResponse:
        sent.append(request.object_id)
        if len(sent) == 2:
            raise httpx.RemoteProtocolError("the link was restarted")
        return send(client, request)

    monkeypatch.setattr(FleetHttpClient, "PushObject", cut_off)
    with pytest.raises(httpx.RemoteProtocolError):
        link.reply(envelope, b"answer")
    link.reply(envelope, b"answer")
    assert answers.get() == [Reply(up.node(OAK), b"answer")]
    assert len(sent) == 4
    assert sent[1] == sent[2]


def test_a_stopped_run_is_over_for_both_sides(up: Up) -> None:
    link = connected(up)
    answers = up.ask(b"question", OAK)
    envelope = next_message(link)
    up.control.stop_runs()
    answers.join(20)
    assert isinstance(answers.error, TaskLostError)
    with pytest.raises(LostError):
        link.bundle(envelope.run)
    with pytest.raises(LostError):
        link.reply(envelope, b"answer")


def test_a_message_of_another_form_has_no_body_and_no_signature(up: Up) -> None:
    link = connected(up)
    content = RecordDict({"other": ConfigRecord({"body": "text"})})
    up.task.grid.push_messages([Message(content, up.node(OAK), "train.round", ttl=10.0)])
    question = link.open(next_message(link))
    assert question == Question(b"")


def test_an_answer_of_the_coordinators_that_is_too_long_is_not_read(up: Up) -> None:
    link = connected(up)
    answers = up.ask(bytes(MAX_BYTES + 1), OAK, seconds=2.0)
    with pytest.raises(LostError, match="bytes"):
        link.open(next_message(link))
    assert answers.get() == []


def test_the_parts_of_a_message_are_bounded_together(up: Up) -> None:
    link = connected(up)
    half = bytes(MAX_BYTES // 2)
    content = RecordDict(
        {str(one): ConfigRecord({"body": half + bytes([one])}) for one in range(3)}
    )
    up.task.grid.push_messages([Message(content, up.node(OAK), "train.round", ttl=10.0)])
    with pytest.raises(LostError, match="more than"):
        link.open(next_message(link))


class Garbling:
    """In place of the coordinator's answers."""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        return httpx.Response(200, content=b"\xff garbage", request=context.request)


def test_an_answer_that_cannot_be_parsed_is_a_message_lost(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = connected(up)
    with monkeypatch.context() as garbled:
        garbled.setattr(link._client, "_interceptors", (Garbling(),))
        with pytest.raises(LostError, match="cannot be read"):
            link.pull()
        turns = iter((False, True))
        link.beat(lambda seconds: next(turns))
    assert link.pull() is None


def test_a_message_that_is_never_complete_is_given_up(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloister_client.fleet import link as links

    monkeypatch.setattr(links, "_PARTS_S", 0.2)
    link = connected(up)
    with monkeypatch.context() as cut:
        cut.setattr("flwr.superlink.grid.http_grid.push_objects", lambda *_, **__: None)
        content = RecordDict({"cloister": ConfigRecord({"body": b"never sent"})})
        up.task.grid.push_messages([Message(content, up.node(OAK), "train.round", ttl=10.0)])
    with pytest.raises(LostError, match="complete"):
        link.open(next_message(link))


def test_another_authority_is_not_believed(up: Up, tmp_path: Path) -> None:
    other = make_coordinator(tmp_path / "other")
    link = FleetLink(
        f"127.0.0.1:{up.home.config.port}",
        other.authority_pem().encode(),
        OAK.transport,
        tmp_path / "id",
        max_bytes=MAX_BYTES,
    )
    with pytest.raises(httpx.ConnectError, match="certificate"):
        link.connect()


def test_between_two_heartbeats_a_connection_is_kept(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, now = connected(up), time.monotonic
    pool = link._client._client._transport._pool
    [before] = pool.connections
    monkeypatch.setattr("httpcore._sync.http11.time.monotonic", lambda: now() + 2 * HEARTBEAT_S)
    assert link.pull() is None
    assert pool.connections == [before]
