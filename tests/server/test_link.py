"""The link's process: it may open files enough for all connections that it admits."""

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister_server.config import Limits
from cloister_server.link import allow_files
from cloister_shared.errors import ServiceError

UNIT = Path(__file__).parents[2] / "server/cloister-coordinator.service"


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """This process's limits, few files for now, put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_link_takes_as_many_files_as_its_connections_need(limits: tuple[int, int]) -> None:
    allow_files(1000)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1000


def test_more_connections_than_the_system_allows_are_refused_at_the_start(
    limits: tuple[int, int],
) -> None:
    if limits[1] == resource.RLIM_INFINITY:
        pytest.skip("this system allows as many files as one likes")
    with pytest.raises(ServiceError, match="raise LimitNOFILE"):
        allow_files(limits[1])


def test_the_unit_allows_the_connections_of_the_configs() -> None:
    (allowed,) = re.findall(r"^LimitNOFILE=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(allowed) >= 2 * Limits().connections + 1000
