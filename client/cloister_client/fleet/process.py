"""The fleet process: the node's link to its coordinator, and the trainer behind it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from cloister_client.fleet.clock import Clock, system_clock
from cloister_client.fleet.link import FleetLink
from cloister_client.fleet.loop import Checks, FleetLoop
from cloister_client.fleet.trainer import TrainerProcess
from cloister_client.home import LOGS, RUNNING, NodeHome
from cloister_shared.errors import ConfigError
from cloister_shared.journal import Event, Journal

NODE_ID = "node_id"
MAX_ANSWER_BYTES = 64 * 2**20
"""The longest answer of the coordinator's that is read; as much as its own listener takes."""


def take_part(
    home: NodeHome,
    clock: Clock = system_clock,
    trainer_of: Callable[[Path, Journal], TrainerProcess] = TrainerProcess,
) -> None:
    """Answer the coordinator until SIGTERM, which ends also what the trainer is in the middle of.

    ``clock`` is this machine's, which may be wrong. Raises ``ConfigError`` if the node has not
    joined a consortium.
    """
    coordinator = home.coordinator()
    if coordinator is None:
        raise ConfigError(
            f"{home.path} belongs to no consortium; see cloister node join, or serve without one"
        )
    running = home.path / RUNNING
    running.mkdir(mode=0o700, exist_ok=True)
    journal = Journal(home.path / LOGS / "fleet.jsonl")
    link = FleetLink(
        coordinator.address,
        coordinator.authority.encode(),
        home.transport_key(),
        running / NODE_ID,
        max_bytes=MAX_ANSWER_BYTES,
        clock=clock,
    )
    trainer = trainer_of(home.path, journal)
    checks = Checks(coordinator.key, home.config.name, home.signing_key())
    signal.signal(signal.SIGTERM, _exit)
    try:
        trainer.await_warm()  # only then is the node there: no round waits for torch
        journal.write(Event.READY, process="fleet", pid=os.getpid())
        FleetLoop(link, trainer, checks, journal).run()
    finally:
        trainer.close()
        link.close()


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
