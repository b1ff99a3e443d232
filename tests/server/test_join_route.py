"""The path that is open to strangers: what it takes, and what it says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from tests.server.conftest import CURRICULUM
from tests.server.joining import body_of
from tests.server.members import member

from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_server.join_route import join_app
from cloister_shared.journal import read
from cloister_shared.kit import JoinAnswer, SignedKit, SignedRequest, Standing, StandingRequest
from cloister_shared.signing import SigningKey


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    limits = Limits(joins_per_minute=3)
    config = CoordinatorConfig(consortium="north", address="127.0.0.1", limits=limits)
    return CoordinatorHome.create(tmp_path / "coordinator", config, CURRICULUM)


def _post(
    home: CoordinatorHome, *bodies: bytes | AsyncIterator[bytes], method: str = "POST"
) -> list[httpx.Response]:
    async def post() -> list[httpx.Response]:
        transport = httpx.ASGITransport(join_app(home))
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            return [await client.request(method, "/v1/join", content=body) for body in bodies]

    return anyio.run(post)


def test_a_node_joins_and_asks_what_became_of_it(home: CoordinatorHome) -> None:
    key = SigningKey.generate()
    join = body_of(Invitations(home).issue("oak"), key)
    question = StandingRequest(node="oak", signing_key=key.public)
    ask = SignedRequest.standing(question, key).model_dump_json().encode()
    answers = [JoinAnswer.model_validate_json(one.content) for one in _post(home, join, ask)]
    assert answers[0] == answers[1]
    assert (answers[0].standing, answers[0].curriculum) == (Standing.PENDING, CURRICULUM.digest)
    home.directory().approve("oak")
    assert JoinAnswer.model_validate_json(_post(home, ask)[0].content).standing == "approved"


def test_a_stranger_learns_nothing_of_a_member(home: CoordinatorHome) -> None:
    _post(home, body_of(Invitations(home).issue("oak")))
    key = SigningKey.generate()
    bodies = [
        SignedRequest.standing(StandingRequest(node=name, signing_key=key.public), key)
        for name in ("oak", "elm")
    ]
    known, unknown = _post(home, *(one.model_dump_json().encode() for one in bodies))
    assert known.status_code == unknown.status_code == 403
    assert known.text.replace("oak", "elm") == unknown.text


def test_a_refusal_says_why(home: CoordinatorHome) -> None:
    signed = Invitations(home).issue("oak")
    _, second = _post(home, body_of(signed), body_of(signed))
    assert second.status_code == 403
    assert "was used before, with other keys" in second.json()["error"]


def test_a_kit_that_is_used_twice_or_not_known_is_written_down(home: CoordinatorHome) -> None:
    signed = Invitations(home).issue("oak")
    unknown = SignedKit.sign(signed.kit.model_copy(update={"token": "t" * 43}), home.signing_key())
    _post(home, body_of(signed), body_of(signed), body_of(unknown))
    joined, reused = read(home.logs / "nodes.jsonl", 10)
    assert (joined["event"], reused["event"]) == ("joined", "kit reused")
    assert joined["node"] == reused["node"] == "oak"
    assert joined["fingerprint"] != reused["fingerprint"]
    refused = read(home.logs / "link.jsonl", 10)
    assert [(one["event"], one["code"]) for one in refused] == [
        ("refused", "kit_reused"),
        ("refused", "kit"),
    ]


def test_a_request_that_its_keys_owner_did_not_sign_is_refused(home: CoordinatorHome) -> None:
    document = json.loads(body_of(Invitations(home).issue("oak")))
    document["request"]["declared_size"] = 700
    (answer,) = _post(home, json.dumps(document).encode())
    assert (answer.status_code, home.directory().members()) == (400, ())
    assert "not signed with the keys that it names" in answer.json()["error"]


def test_nobody_joins_with_a_transport_key_that_is_anothers_and_the_kit_stays_good(
    home: CoordinatorHome,
) -> None:
    """Or whoever has a kit could keep another school out, under whose key it would be pending."""
    elm, signed = member("elm"), Invitations(home).issue("oak")
    stolen, again = _post(home, body_of(signed, transport_key=elm.transport_key), body_of(signed))
    assert stolen.status_code == 400
    assert "not signed with the keys that it names" in stolen.json()["error"]
    assert again.status_code == 200
    assert [one.name for one in home.directory().members()] == ["oak"]
    assert home.directory().add(elm).name == "elm"


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"request": {"type": "run"}}'])
def test_what_is_no_request_is_refused(home: CoordinatorHome, body: bytes) -> None:
    assert _post(home, body)[0].status_code == 400


def test_a_key_of_another_kind_is_refused(home: CoordinatorHome) -> None:
    document = json.loads(body_of(Invitations(home).issue("oak")))
    document["request"]["transport_key"] = home.authority_pem()
    assert _post(home, json.dumps(document).encode())[0].status_code == 400


def test_a_long_body_is_not_read_to_its_end(home: CoordinatorHome) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1024
            yield bytes(1024)

    assert _post(home, endless())[0].status_code == 400
    assert read <= 64 * 1024


def test_an_address_may_ask_a_few_times_a_minute(home: CoordinatorHome) -> None:
    codes = [answer.status_code for answer in _post(home, *[b"{}"] * 5)]
    assert codes == [400, 400, 400, 429, 429]


def test_nothing_but_post_is_answered(home: CoordinatorHome) -> None:
    assert _post(home, b"", method="GET")[0].status_code == 405
