"""The coordinator's time, by what its answers tell, however long they took."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore.protobuf.client import ProtobufRequestContext

from cloister_client.fleet.clock import SignedTime

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Day:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def answered(signed: SignedTime, day: Day, took_s: float, date: datetime | str) -> None:
    """One request, and its answer that bears this date."""
    told = date if isinstance(date, str) else format_datetime(date, usegmt=True)

    def answer(context: ProtobufRequestContext) -> httpx.Response:
        day.now += timedelta(seconds=took_s)
        return httpx.Response(200, headers={"date": told})

    request = httpx.Request("POST", "https://coordinator")
    signed.intercept(ProtobufRequestContext("Pull", PullMessagesRequest(), request), answer)


@pytest.fixture
def day() -> Day:
    return Day()


@pytest.fixture
def signed(day: Day) -> SignedTime:
    return SignedTime(ec.generate_private_key(ec.SECP384R1()), day)


def test_a_clock_that_is_wrong_is_known_from_the_first_answer(signed: SignedTime, day: Day) -> None:
    answered(signed, day, 0.1, NOON + timedelta(days=1))
    assert signed.offset == pytest.approx(timedelta(days=1), abs=timedelta(seconds=1))


@pytest.mark.parametrize("dated_s", [0, 5, 10])
def test_an_answer_that_was_held_is_of_any_time_in_between(
    signed: SignedTime, day: Day, dated_s: float
) -> None:
    answered(signed, day, 10.0, NOON + timedelta(seconds=dated_s))
    assert signed.offset == timedelta()


@pytest.mark.parametrize("dated_s", [-60, 70])
def test_a_wrong_clock_is_known_from_a_held_answer_too(
    signed: SignedTime, day: Day, dated_s: float
) -> None:
    answered(signed, day, 10.0, NOON + timedelta(seconds=dated_s))
    assert signed.offset == timedelta(seconds=dated_s - 10)


def test_once_known_the_offset_stays(signed: SignedTime, day: Day) -> None:
    answered(signed, day, 0.0, NOON - timedelta(hours=3))
    answered(signed, day, 10.0, day.now - timedelta(hours=3))
    assert signed.offset == -timedelta(hours=3)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Thu, 01 Jan 2026 12:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Thu, 01 Jan 2026 12:00:00 +9999",
        "Thu, 01 Jan 99999999999999999999 12:00:00 GMT",
    ],
)
def test_a_date_that_says_nothing_changes_nothing(signed: SignedTime, day: Day, date: str) -> None:
    answered(signed, day, 0.0, date)
    assert signed.offset == timedelta()
