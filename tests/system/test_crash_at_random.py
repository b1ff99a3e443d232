"""SIGKILL at random instants of a run that is under way, of any of its processes, over and over."""

import random
import time
from collections.abc import Sequence

import pytest
from tests.system.books import charges, check_books, check_finished, committed, export_of
from tests.system.consortium import NAMES
from tests.system.processes import COORDINATOR, Consortium, begin, checkpoint
from tests.system.simulated import await_that

from cloister_server.checkpoint import read_checkpoint
from cloister_shared.privacy.ledger_format import ROLES

pytestmark = pytest.mark.crash

KILLS = 40
ROUNDS = 400
WARM = 2
"""Rounds that are done before the first kill."""


@pytest.mark.parametrize(
    "victims", [NAMES, [COORDINATOR], [COORDINATOR, *NAMES]], ids=["nodes", "coordinator", "all"]
)
def test_killed_at_40_random_instants_a_run_counts_every_update_once_and_pays_for_all(
    consortium: Consortium, victims: Sequence[str]
) -> None:
    begin(consortium.directory, ROUNDS)
    moments = random.Random(7)  # noqa: S311
    rounds_done = WARM - 1
    for _ in range(KILLS):
        rounds_done = await_another_round(consortium, rounds_done)
        time.sleep(moments.uniform(0, 3) * seconds_of_a_round(consortium))
        struck = victims if COORDINATOR in victims else [moments.choice(victims)]
        assert consortium.kill(*struck), "it had ended before"
        rounds_done = check_books(consortium.directory).round
    consortium.finish()
    check_finished(consortium.directory)
    for name in NAMES:
        export = export_of(consortium.directory / name)
        tried = sum(charges(export, role).total() for role in ROLES)
        kept = sum(len(committed(export, role)) for role in ROLES)
        assert tried <= kept + KILLS, "a kill costs one attempt at the most"


def await_another_round(consortium: Consortium, before: int) -> int:
    """Rounds done, once it is more than ``before`` were."""

    def under_way() -> bool:
        assert not consortium.is_over(), "it ended before it was killed often enough"
        return read_checkpoint(checkpoint(consortium.directory)).round > before

    await_that(under_way, "another round")
    return before + 1


def seconds_of_a_round(consortium: Consortium) -> float:
    return read_checkpoint(checkpoint(consortium.directory)).records[-1].seconds
