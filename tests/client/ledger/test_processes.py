"""Real processes: many at once, and one that is killed at any moment.

A nursery process imports the ledger and Google's accounting once, for it asks for a price, and
forks the others, which share nothing but the file.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister_client.ledger import SqliteLedger
from cloister_shared.privacy import Budget, SampledGaussian, verify_ledger
from cloister_shared.privacy.ledger_format import Charge, ModelEvent
from cloister_shared.signing import SigningKey

MakeCharge = Callable[..., Charge]

RACERS = """
import os, sys
from pathlib import Path
from cloister_client.ledger import SqliteLedger
from cloister_shared.errors import BudgetExceededError
from cloister_shared.privacy.ledger_format import Charge
from cloister_shared.signing import SigningKey

key = SigningKey.from_bytes(bytes.fromhex(sys.argv[3]))
charge = Charge.model_validate_json(sys.argv[2])
charge.cost(2.0)
gate, opener = os.pipe()
children = []
for number in range(1, 21):
    if child := os.fork():
        children.append(child)
        continue
    os.close(opener)
    ledger = SqliteLedger.open(Path(sys.argv[1]), key)
    os.read(gate, 1)
    try:
        reservation = ledger.reserve(charge.model_copy(update={"round": number}))
        ledger.start(reservation)
        ledger.commit(reservation, b"delta")
        os.write(1, b"released\\n")
    except BudgetExceededError:
        os.write(1, b"refused\\n")
    os._exit(0)
os.close(opener)
for child in children:
    os.waitpid(child, 0)
"""

NURSERY = """
import os, sys
from itertools import count
from pathlib import Path
from cloister_client.ledger import SqliteLedger
from cloister_shared.privacy.ledger_format import Charge
from cloister_shared.signing import SigningKey

key = SigningKey.from_bytes(bytes.fromhex(sys.argv[3]))

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

charge = Charge.model_validate_json(sys.argv[2])
charge.cost(2.0)

def work(first):
    ledger = SqliteLedger.open(Path(sys.argv[1]), key)
    for number in count(first):
        reservation = ledger.reserve(charge.model_copy(update={"round": number}))
        say("reserved", number)
        ledger.start(reservation)
        ledger.commit(reservation, b"%d" % number)
        say("committed", number)

for line in sys.stdin:
    child = os.fork()
    if not child:
        work(int(line))
    say("born", child)
    os.waitpid(child, 0)
    say("dead", child)
"""


@pytest.fixture
def charge(make_charge: MakeCharge, budget: Budget) -> Charge:
    """A charge of which seven fit and not eight."""
    noise = budget.calibrate(0.5, 10, 7)
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=0.5, steps=10)
    charge = make_charge(events=(ModelEvent(model="dkt", event=event),))
    assert budget.limit // charge.cost(budget.order) == 7
    return charge


def test_twenty_processes_that_race_for_seven_rounds_release_exactly_seven(
    path: Path, budget: Budget, charge: Charge, key: SigningKey
) -> None:
    SqliteLedger.create(path, budget, key).close()
    result = subprocess.run(
        [sys.executable, "-c", RACERS, str(path), charge.model_dump_json(), key.to_bytes().hex()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(result.stdout.split()) == ["refused"] * 13 + ["released"] * 7
    export = SqliteLedger.open(path, key).export()
    verify_ledger(export)
    assert [entry.kind for entry in export.entries].count("COMMIT") == 7


@pytest.fixture
def cheap(make_charge: MakeCharge) -> Charge:
    """A charge of which thousands fit."""
    event = SampledGaussian(noise_multiplier=500, sampling_rate=0.1, steps=1)
    return make_charge(events=(ModelEvent(model="dkt", event=event),))


@pytest.fixture
def nursery(
    path: Path, budget: Budget, cheap: Charge, key: SigningKey
) -> Iterator[subprocess.Popen[str]]:
    SqliteLedger.create(path, budget, key).close()
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(path), cheap.model_dump_json(), key.to_bytes().hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=60)


def until_killed(nursery: subprocess.Popen[str], first: int, delay: float) -> dict[str, list[int]]:
    """Let a child do rounds from ``first`` on, kill it, return what it said of which rounds."""
    nursery.stdin.write(f"{first}\n")
    nursery.stdin.flush()
    said: dict[str, list[int]] = {"reserved": [], "committed": [], "born": [], "dead": []}
    killed = False
    while not said["dead"]:
        word, number = nursery.stdout.readline().split()
        said[word].append(int(number))
        if not killed and said["born"] and said["reserved"]:
            time.sleep(delay)
            os.kill(said["born"][0], signal.SIGKILL)
            killed = True
    return said


def test_a_killed_process_never_leaves_less_charged_than_it_had_reserved(
    nursery: subprocess.Popen[str], path: Path, budget: Budget, cheap: Charge, key: SigningKey
) -> None:
    price = cheap.cost(budget.order)
    reserved, first = 0, 1
    for attempt in range(10):
        said = until_killed(nursery, first, delay=0.011 * attempt)
        reserved += len(said["reserved"])
        ledger = SqliteLedger.open(path, key)
        export = ledger.export()
        spent = verify_ledger(export)["train", "2024"].micro
        # A charge may be on disk before the process could say so, never the other way round.
        assert reserved * price <= spent <= (reserved + attempt + 1) * price
        for number in said["committed"][-1:]:
            committed = [one for one in export.entries if one.kind == "COMMIT"]
            if export.entries[committed[-1].of].charge.round == number:
                again = ledger.reserve(cheap.model_copy(update={"round": number}))
                assert again.payload == b"%d" % number
        ledger.close()
        first = said["reserved"][-1] + 2
    assert reserved >= 10
