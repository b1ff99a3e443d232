"""SIGKILL at every named point: nothing is counted twice, nothing is forgotten, the run finishes.

Nodes and coordinator are processes of their own, noise is secret.
"""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from tests.system.books import REPLY, charges, check_books, check_finished, committed, export_of
from tests.system.consortium import BUDGET, NAMES
from tests.system.mortal import (
    ANSWERING,
    ASKING,
    BEFORE_STATEMENT,
    COMMITTED,
    HANDING_OUT,
    INSTALLING,
    UNCOMMITTED,
    Death,
)
from tests.system.processes import (
    COORDINATOR,
    KILLED,
    MECHANISM,
    METRICS,
    Consortium,
    begin,
    replies,
)

from cloister_client.residuals import FOLDER
from cloister_server.checkpoint import RunState
from cloister_shared.privacy.ledger_format import Role

ROUNDS, FATAL = 3, 2
ROLE: dict[str, Role] = {"train": "train", "evaluate": "evaluation"}
ONCE: dict[Role, Counter[int]] = {"train": Counter([1, 2, 3]), "evaluation": Counter([2, 3])}
"""How often each round is charged where nothing happens; metrics are due after rounds 2 and 3."""


@pytest.mark.parametrize(("action", "point"), list(product(ROLE, ANSWERING)))
def test_a_node_killed_at_any_point_of_an_answer_sends_the_same_bytes_or_pays_again(
    consortium: Consortium, action: str, point: str
) -> None:
    """The coordinator is killed after it, so that it asks again."""
    begin(consortium.directory, ROUNDS)
    consortium.start("oak", Death(action, FATAL, point))
    consortium.start("elm")
    consortium.start(COORDINATOR, Death(action, FATAL, "received"))
    assert consortium.ended("oak") == consortium.ended(COORDINATOR) == KILLED
    check_books(consortium.directory)
    export, role = export_of(consortium.directory / "oak"), ROLE[action]
    assert charges(export, role)[FATAL] == (point != "asked")
    assert (FATAL in dict(committed(export, role))) == (point in COMMITTED)

    consortium.finish()
    check_finished(consortium.directory)
    again = {role: Counter([FATAL] if point in UNCOMMITTED else [])}
    for name, one in product(NAMES, ROLE.values()):
        more = again.get(one, Counter()) if name == "oak" else Counter[int]()
        assert charges(export_of(consortium.directory / name), one) == ONCE[one] + more


@pytest.mark.parametrize("point", INSTALLING)
def test_a_node_killed_while_it_takes_a_finished_model_takes_it_when_it_comes_back(
    consortium: Consortium, point: str
) -> None:
    begin(consortium.directory, ROUNDS)
    consortium.start("oak", Death("release", ROUNDS, point))
    consortium.start("elm")
    consortium.start(COORDINATOR, Death("release", ROUNDS, "received"))
    assert consortium.ended("oak") == consortium.ended(COORDINATOR) == KILLED
    consortium.finish()
    check_finished(consortium.directory)
    check_all_paid_once(consortium.directory)


@pytest.mark.parametrize(
    ("action", "point"), [*product(ROLE, ASKING), *product(["release"], HANDING_OUT)]
)
def test_a_coordinator_killed_at_any_point_costs_nobody_anything(
    consortium: Consortium, action: str, point: str
) -> None:
    begin(consortium.directory, ROUNDS)
    for name in NAMES:
        consortium.start(name)
    consortium.start(COORDINATOR, Death(action, FATAL if action in ROLE else ROUNDS, point))
    assert consortium.ended(COORDINATOR) == KILLED
    state = check_books(consortium.directory)
    done = {"train": FATAL - 1, "evaluate": FATAL, "release": ROUNDS}
    assert state.round == done[action]
    assert (consortium.directory / "first.release").exists() == (action == "release")

    consortium.finish()
    check_finished(consortium.directory)
    check_all_paid_once(consortium.directory)


def test_a_node_killed_while_reading_pays_twice_and_sits_out_what_it_cannot_pay(
    consortium: Consortium,
) -> None:
    state = killed_while_reading(consortium, rounds=5, affordable=5)
    oak, elm = (charges(export_of(consortium.directory / name)) for name in NAMES)
    assert oak == {1: 1, 2: 2, 3: 1, 4: 1}
    assert elm == dict.fromkeys(range(1, 6), 1)
    last = state.records[-1]
    assert (last.round, last.participants) == (5, ("elm",))
    assert last.rejected == {"oak": "refused: budget"}


@pytest.mark.parametrize("point", ["made", "committing", "in the log", "committed"])
def test_what_compression_owes_is_paid_once_wherever_a_node_is_killed(
    consortium: Consortium, point: str
) -> None:
    """The residual of the reply is on disk; the ledger says whether there is such a reply."""
    begin(consortium.directory, ROUNDS, compression="int8")
    consortium.start("oak", Death("train", FATAL, point))
    consortium.start("elm")
    consortium.start(COORDINATOR, Death("train", FATAL, "received"))
    assert consortium.ended("oak") == consortium.ended(COORDINATOR) == KILLED
    owed = consortium.directory / "oak" / FOLDER
    left = {path.name.partition(".")[0] for path in owed.iterdir()}
    known = dict(committed(export_of(consortium.directory / "oak"), "train"))
    assert len(left) == 2
    assert (left == set(known.values())) == (point in COMMITTED)

    consortium.finish()
    check_finished(consortium.directory)
    assert not list(owed.iterdir()), "a finished run owes nothing"


def test_a_spare_round_pays_for_one_crash(consortium: Consortium) -> None:
    state = killed_while_reading(consortium, rounds=3, affordable=4)
    assert charges(export_of(consortium.directory / "oak")) == {1: 1, 2: 2, 3: 1}
    assert {one.participants for one in state.records} == {tuple(sorted(NAMES))}


@pytest.mark.crash
@pytest.mark.parametrize("action", ROLE)
def test_a_node_killed_before_each_sql_statement_of_an_answer_loses_nothing(
    consortium: Consortium, action: str
) -> None:
    """Statement n in round n; the coordinator is killed after it, so that it asks again."""
    begin(consortium.directory, rounds=100, metrics=METRICS.model_copy(update={"every_rounds": 1}))
    consortium.start("elm")
    for number in range(1, 100):
        consortium.start("oak", Death(action, number, BEFORE_STATEMENT.format(number)))
        consortium.start(COORDINATOR, Death(action, number, "received"))
        assert consortium.ended(COORDINATOR) == KILLED
        check_books(consortium.directory)
        if (REPLY[ROLE[action]], number, "oak") in replies(consortium.directory):
            break  # it has fewer statements
        assert consortium.ended("oak") == KILLED
    assert number > len(ANSWERING)
    consortium.finish()
    check_finished(consortium.directory)


def killed_while_reading(consortium: Consortium, rounds: int, affordable: int) -> RunState:
    """The end of a run without metrics in whose second round a node and the coordinator died."""
    noise = BUDGET.calibrate(MECHANISM.sampling_rate, 1, affordable)
    begin(
        consortium.directory,
        rounds,
        MECHANISM.model_copy(update={"noise_multiplier": noise}),
        metrics=None,
        quorum=1,
    )
    consortium.start("oak", Death("train", 2, "reading"))
    consortium.start("elm")
    consortium.start(COORDINATOR, Death("train", 2, "received"))
    assert consortium.ended("oak") == consortium.ended(COORDINATOR) == KILLED
    consortium.finish()
    return check_books(consortium.directory)


def check_all_paid_once(directory: Path) -> None:
    for name, role in product(NAMES, ONCE):
        assert charges(export_of(directory / name), role) == ONCE[role]
