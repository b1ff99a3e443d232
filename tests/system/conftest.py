"""Processes that are ended with their test."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.processes import Consortium


@pytest.fixture
def consortium(tmp_path: Path) -> "Iterator[Consortium]":
    """A consortium of which nothing runs yet."""
    from tests.system.processes import Consortium  # with torch, which few tests here need

    running = Consortium(tmp_path)
    yield running
    running.close()
