"""Where a process may be killed: named points of what nodes and coordinators do, and a fuse."""

import os
import signal
import sqlite3
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cloister_client.histories import History, HistorySource, Purpose
from cloister_client.ledger import Ledger, Reservation
from cloister_client.node import Node
from cloister_server.notary import REGISTER
from cloister_shared.messages import Release
from cloister_shared.model_specs import Weights
from cloister_shared.privacy.ledger_format import Charge, SignedHead

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


BEFORE_STATEMENT = "before statement {}"
"""Of anybody's: the n-th SQL statement of what is done, whatever it is, is about to run."""


@dataclass(frozen=True)
class Death:
    """At ``point`` of ``action`` in round ``round``."""

    action: str
    round: int
    point: str


@dataclass
class Fuse:
    """Kills its process when that is where ``death`` says."""

    death: Death | None = None
    action: str = ""
    round: int = 0
    statements: int = 0
    committing: bool = False

    def begin(self, action: str, round_number: int = 0) -> None:
        """From now on points are those of this action and round."""
        self.action, self.round, self.statements = action, round_number, 0

    def reach(self, point: str) -> None:
        """Be at ``point``, perhaps for ever."""
        if self.death == Death(self.action, self.round, point):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on be at a point before files take their places, and before SQL statements.

        For the rest of this process; statements are those of connections that are still to be made.
        """
        sys.addaudithook(self._audit)
        connect = sqlite3.dbapi2.connect

        def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(self._before)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = watched

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            place = os.fsdecode(arguments[1])
            if place.endswith(REGISTER):
                self.reach("learning")
            if place.endswith(".checkpoint"):
                self.reach("recording")

    def _before(self, statement: str) -> None:
        self.statements += 1
        self.reach(BEFORE_STATEMENT.format(self.statements))
        if self.committing and statement == "COMMIT":
            self.reach("committing")
        if self.committing and statement.startswith("PRAGMA wal_checkpoint"):
            self.reach("in the log")


def mortal(node: Node, fuse: Fuse) -> Node:
    """The same node, which passes the points of ``fuse``."""

    def install(release: Release, weights: Mapping[str, Weights]) -> None:
        node.install(release, weights)
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

    inner: Ledger
    fuse: Fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, charge: Charge) -> Reservation:
        self.fuse.reach("asked")
        reservation = self.inner.reserve(charge)
        self.fuse.reach("reserved")
        return reservation

    def start(self, reservation: Reservation) -> SignedHead:
        head = self.inner.start(reservation)
        self.fuse.reach("started")
        return head

    def commit(self, reservation: Reservation, payload: bytes) -> None:
        self.fuse.reach("made")
        self.fuse.committing = True
        self.inner.commit(reservation, payload)
        self.fuse.committing = False
        self.fuse.reach("committed")
