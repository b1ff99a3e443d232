"""A node's ledger when it is long: a charge on disk, the budget, the check of the whole chain.

The ledger lies in a node's home on a real disk. It is filled through the rules and the writing of
``SqliteLedger``, only in one transaction; whatever is measured afterwards opens it as a node does.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from cloister_client.config import NodeConfig
from cloister_client.home import LEDGER, NodeHome
from cloister_client.ledger import Ledger, Reservation, SqliteLedger
from cloister_client.ledger.file import connect
from cloister_shared.errors import ConfigError
from cloister_shared.privacy import SampledGaussian
from cloister_shared.privacy.budget_report import report_budget
from cloister_shared.privacy.ledger_chain import verified_totals
from cloister_shared.privacy.ledger_format import ROLES, Charge, LedgerExport, ModelEvent
from cloister_shared.privacy.pld import pld_epsilon
from cloister_simulations.benchmarks.harness import BenchmarkResult, machine
from cloister_simulations.benchmarks.skills import curriculum_of

ENTRIES = 100_000
_PER_ROUND = 3
"""Entries of a round: RESERVE, START, COMMIT."""
_ROUNDS_OF_A_RUN, _SETTINGS = 300, 50
_PAYLOAD = bytes(4096)
_SIGNATURES = 2000
_IN_MEMORY = ("tmpfs", "ramfs")
COHORTS = ("2025", "2026")
Answer = TypeVar("Answer")


def run(entries: int = ENTRIES, rounds: int = 500, repeats: int = 3) -> BenchmarkResult:
    """Fill a ledger with ``entries`` in a folder below the current one, and measure it there.

    Raises ``ConfigError`` where that is no disk.
    """
    kind = file_system(Path.cwd())
    if kind in _IN_MEMORY:
        raise ConfigError(
            f"this folder is {kind}, in memory: a charge would wait for no disk; run the benchmark "
            "in another folder"
        )
    with tempfile.TemporaryDirectory(prefix=".bench-ledger-", dir=Path.cwd()) as folder:
        home = NodeHome.create(
            Path(folder) / "node",
            NodeConfig(name="benchmark", declared_size=50, cohorts=COHORTS),
            curriculum_of(1),
        )
        fill_s, _ = _timed(lambda: _fill(home, entries // _PER_ROUND))
        budget_s = _cold_budget(home, repeats)
        command_s = statistics.median(_command_s(home) for _ in range(repeats))
        chain_s = statistics.median(_opening_s(home) for _ in range(repeats))
        ledger = home.ledger()
        exported = ledger.export()
        check = partial(verified_totals, exported)
        audit_s = statistics.median(_timed(check)[0] for _ in range(repeats))
        stages = _stages(ledger, entries // _PER_ROUND, rounds)
        ledger.close()
        size = (home.path / LEDGER).stat().st_size
    count = len(exported.entries)
    figures = {
        "reserve_ms": 1000 * float(np.median(stages["reserve"])),
        "reserve_p99_ms": 1000 * float(np.quantile(stages["reserve"], 0.99)),
        "commit_ms": 1000 * float(np.median(stages["commit"])),
        "budget_ms": 1000 * budget_s,
        "budget_command_ms": 1000 * command_s,
        "chain_entries_per_s": count / chain_s,
        "audit_entries_per_s": count / audit_s,
        "signatures_per_s": _signatures_per_s(exported),
    }
    row = {
        "entries": float(count),
        "file_mib": size / 2**20,
        "fill_s": fill_s,
        **{f"{name}_max_ms": 1000 * max(seconds) for name, seconds in stages.items()},
    }
    return BenchmarkResult(
        benchmark="ledger",
        figures=figures,
        rows=(row,),
        machine={**machine("default"), "file_system": kind},
    )


def file_system(folder: Path) -> str:
    """The kind of file system that holds ``folder``, as Linux calls it; elsewhere ``unknown``."""
    device = folder.stat().st_dev
    place = f"{os.major(device)}:{os.minor(device)}"
    mounts = Path("/proc/self/mountinfo")
    for line in mounts.read_text("utf-8").splitlines() if mounts.exists() else ():
        mounted, _, of_kind = line.partition(" - ")
        if mounted.split()[2] == place:
            return of_kind.split()[0]
    return "unknown"


class _Filling(SqliteLedger):
    """Appends as every ledger does, but in one transaction for all: 5,000 entries a second."""

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        Ledger.commit(self, reservation, payload)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        yield


def _fill(home: NodeHome, rounds: int) -> None:
    path = home.path / LEDGER
    connection = connect(path)
    connection.execute("BEGIN IMMEDIATE")
    ledger = _Filling(connection, path, home.signing_key())
    for number in range(rounds):
        ledger.commit(_begun(ledger, _charge(number)), _PAYLOAD)
    connection.execute("COMMIT")
    ledger.close()


def _begun(ledger: SqliteLedger, charge: Charge) -> Reservation:
    reservation = ledger.reserve(charge)
    ledger.start(reservation)
    return reservation


def _charge(number: int) -> Charge:
    """Runs of 300 rounds of both models, of 50 settings; every tenth round releases metrics."""
    run, place = divmod(number, _ROUNDS_OF_A_RUN)
    role = ROLES[number % 10 == 0]
    noise = 20.0 + run % _SETTINGS
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=0.01, steps=1)
    return Charge(
        run=f"run-{run}",
        round=place + 1,
        plan=f"{run:064x}",
        request=f"{number:064x}",
        role=role,
        cohorts=COHORTS,
        events=tuple(ModelEvent(model=kind, event=event) for kind in ("dkt", "recommender")),
    )


def _stages(ledger: SqliteLedger, done: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each stage of ``rounds`` further releases, each durable when it returns."""
    seconds: dict[str, list[float]] = {"reserve": [], "start": [], "commit": []}
    for number in range(done, done + rounds):
        charge = _charge(number)
        reserve_s, reservation = _timed(partial(ledger.reserve, charge))
        start_s, _ = _timed(partial(ledger.start, reservation))
        commit_s, _ = _timed(partial(ledger.commit, reservation, _PAYLOAD))
        for name, one in zip(seconds, (reserve_s, start_s, commit_s), strict=True):
            seconds[name].append(one)
    return seconds


def _opening_s(home: NodeHome) -> float:
    """Seconds until a node that may release something has verified its ledger."""
    seconds, ledger = _timed(home.ledger)
    ledger.close()
    return seconds


def _cold_budget(home: NodeHome, repeats: int) -> float:
    """Median seconds of the first answer of ``repeats`` fresh processes, their imports done."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        return statistics.median(fresh.map(_budget_s, [home.path] * repeats))


def _budget_s(path: Path) -> float:
    pld_epsilon({(1.0, 1.0): 1}, 1e-6)  # a price that is imported when it is first asked for
    return _timed(lambda: report_budget(*NodeHome.open(path).totals()))[0]


def _command_s(home: NodeHome) -> float:
    """Seconds of the whole command in a process of its own, most of them imports."""
    command = [str(Path(sys.executable).with_name("cloister")), "node", "budget", str(home.path)]
    # The command is our own console script beside this interpreter.
    return _timed(lambda: subprocess.run(command, check=True, capture_output=True))[0]  # noqa: S603


def _signatures_per_s(export: LedgerExport) -> float:
    def check() -> None:
        for _ in range(_SIGNATURES):
            export.head.is_signed_by(export.header.key)

    return _SIGNATURES / _timed(check)[0]


def _timed(ask: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds, and what was answered."""
    began = time.perf_counter()
    answer = ask()
    return time.perf_counter() - began, answer
