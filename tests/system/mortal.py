"""Where a process may be killed: named points of what a node and a coordinator do, and a fuse."""

import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cloister_client.histories import History, HistorySource, Purpose
from cloister_client.ledger import Reservation, SqliteLedger
from cloister_client.node import Node
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.ledger_format import Charge

Action = Literal["train", "evaluate", "release"]

UNCOMMITTED = ("reserved", "started", "reading", "made", "committing")
"""Points of a node that has been charged, and will be again: RESERVE stands; START does; a history
is about to be read; the reply is there; COMMIT is written but not SQLite's own COMMIT."""
COMMITTED = ("in the log", "committed", "answered")
"""Points of a node that has the reply for ever: COMMIT stands, in SQLite's log alone; in the file
itself; the transport has the reply."""
ANSWERING = ("asked", *UNCOMMITTED, *COMMITTED)
"""All points of an answer to a request to train or to evaluate."""
INSTALLING = ("installed", "answered")
"""A node's that is given a finished model: it is served; the transport has the receipt."""
ASKING = ("asking", "asked", "received", "learning", "recording")
"""A coordinator's: all before is on disk and nothing is sent; requests are; replies are there; what
they tell of nodes and their ledgers is about to take its place on disk; that has, and the new
checkpoint is about to."""
HANDING_OUT = ASKING[:3]
"""A coordinator's whose models are finished and on disk."""


@dataclass(frozen=True)
class Death:
    """At ``point`` of ``action`` in round ``round``; a release is of none, 0."""

    action: Action
    round: int
    point: str


@dataclass
class Fuse:
    """Kills its process when that is where ``death`` says."""

    death: Death | None = None
    action: Action = "train"
    round: int = 0

    def begin(self, action: Action, round_number: int = 0) -> None:
        """From now on points are those of this action and round."""
        self.action, self.round = action, round_number

    def reach(self, point: str) -> None:
        """Be at ``point``, perhaps for ever."""
        if self.death == Death(self.action, self.round, point):
            die()

    def watch_renaming(self, points: Mapping[str, str]) -> None:
        """Be at a point whenever a file is about to take its place under a name that ends so."""

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            for end, point in points.items():
                if event == "os.rename" and str(arguments[1]).endswith(end):
                    self.reach(point)

        sys.addaudithook(watch)


def die() -> None:
    """End this process here."""
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(node: Node, fuse: Fuse) -> Node:
    """The same node, which passes the points of ``fuse``."""

    def install(spec: ModelSpec, weights: Weights, plan: str, round_number: int) -> None:
        node.install(spec, weights, plan, round_number)
        fuse.reach("installed")

    return replace(
        node,
        source=MortalSource(node.source, fuse),
        ledger=MortalLedger(node.ledger, fuse),
        install=install,
    )


@dataclass(frozen=True)
class MortalSource:
    """A node's learners."""

    inner: HistorySource
    fuse: Fuse

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        return self.inner.learners(purpose, cohorts)

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        self.fuse.reach("reading")
        return self.inner.load(learners, purpose)


@dataclass(frozen=True)
class MortalLedger:
    """A node's ledger; everything but the steps of an answer is the ledger's own."""

    inner: SqliteLedger
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, charge: Charge) -> Reservation:
        self.fuse.begin(self.fuse.action, charge.round)
        self.fuse.reach("asked")
        reservation = self.inner.reserve(charge)
        self.fuse.reach("reserved")
        return reservation

    def start(self, reservation: Reservation) -> Any:
        head = self.inner.start(reservation)
        self.fuse.reach("started")
        return head

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        self.fuse.reach("made")
        self.inner._connection.set_trace_callback(self._before)
        self.inner.commit(reservation, payload)
        self.inner._connection.set_trace_callback(None)
        self.fuse.reach("committed")

    def _before(self, statement: str) -> None:
        """SQLite is about to run ``statement``."""
        if statement == "COMMIT":
            self.fuse.reach("committing")
        if statement.startswith("PRAGMA wal_checkpoint"):
            self.fuse.reach("in the log")
