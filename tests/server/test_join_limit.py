"""Who may ask to join, how often: a stranger with many addresses locks out neighbours at most."""

from collections.abc import Iterable

import pytest

from cloister_server.join_limit import JoinLimit
from cloister_server.networks import networks

HONEST = ("203.0.113.7", "2001:db8::7")


def taken(limit: JoinLimit, addresses: Iterable[str], now: float = 0.0) -> int:
    return sum(limit.takes(one, now) for one in addresses)


def test_an_address_has_its_share_each_minute() -> None:
    limit = JoinLimit(2)
    assert taken(limit, ["192.0.2.1"] * 5) == 2
    assert limit.takes("192.0.2.2", now=0.0)
    assert limit.takes("192.0.2.1", now=60.0)


def test_a_network_that_one_machine_may_own_counts_as_one_address() -> None:
    limit = JoinLimit(2)
    assert taken(limit, (f"2001:db8::{one:x}" for one in range(100))) == 2
    assert limit.takes("2001:db8:0:1::1", now=0.0)


@pytest.mark.parametrize(
    "stranger",
    [
        lambda one: f"2a00:1:2:{one:x}::1",  # a customer's /48
        lambda one: f"2a00:1:{one:x}::1",  # a provider's /32
        lambda one: f"198.51.100.{one % 256}",
        lambda one: f"198.51.{one // 256 % 256}.{one % 256}",
    ],
)
def test_a_stranger_with_a_whole_network_locks_nobody_else_out(stranger) -> None:
    limit = JoinLimit(6)
    assert taken(limit, map(stranger, range(20_000))) < 400
    assert all(limit.takes(one, now=0.0) for one in HONEST)


def test_strangers_everywhere_have_a_bound_together() -> None:
    limit = JoinLimit(2)
    everywhere = [f"{one // 256 + 1}.{one % 256}.0.1" for one in range(5000)]
    assert taken(limit, everywhere) == 2000
    assert limit.takes("203.0.113.7", now=60.0)


def test_an_address_is_the_same_however_it_is_written() -> None:
    assert networks("::ffff:192.0.2.1") == networks("192.0.2.1")
    assert networks("2001:DB8::1%eth0") == networks("2001:db8:0::2")
    assert networks("somewhere") == ("somewhere",)
