"""What an operator sees of a coordinator, out of its files alone."""

from dataclasses import dataclass
from datetime import datetime

from cloister_server.checkpoint import CheckpointHeader, read_header
from cloister_server.delivery import Deliveries
from cloister_server.directory import Member
from cloister_server.home import CoordinatorHome
from cloister_server.notary import KnownNode
from cloister_server.orders import USUAL_DELTA, RunOrder
from cloister_server.registry import Version
from cloister_server.run_folder import Phase, RunFolder, Wanted
from cloister_shared.kit import Standing
from cloister_shared.privacy.accounting import epsilon


@dataclass(frozen=True)
class RunView:
    """One run. ``ahead`` is how many others have their turn before it, ``None`` if not wanted.

    ``spent`` is ε at ``delta`` of the rounds that were done, ``planned`` that of all of them, for a
    learner of the train role who was in each; both are ``None`` without noise.
    """

    name: str
    phase: Phase
    wanted: bool
    ahead: int | None
    since: datetime
    reason: str
    delta: float
    spent: float | None
    planned: float | None
    checkpoint: CheckpointHeader

    @property
    def state(self) -> str:
        """Where it stands, in a word or two."""
        if self.wanted and self.phase is not Phase.RUNNING:
            return f"queued, {self.ahead} before it" if self.ahead else "queued, next"
        if self.wanted:
            return Phase.RUNNING.value
        if self.phase is Phase.RUNNING:
            return "stopping after this round"
        return Phase.STOPPED.value if self.phase is Phase.WAITING else self.phase.value

    @property
    def refusals(self) -> int:
        """Replies that did not count, of all rounds."""
        return sum(len(one.rejected) for one in self.checkpoint.records)

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes to nodes and from them, of all rounds."""
        records = self.checkpoint.records
        return sum(one.bytes_down for one in records), sum(one.bytes_up for one in records)


@dataclass(frozen=True)
class NodeView:
    """One node: its membership, its ledger as it was seen last, and what it did not get yet.

    ``entries`` is ``None`` before it took part. With ``restoring`` its ledger was put back from a
    backup: it gets its receipt with the next request. ``missing`` are kinds of which it has not
    the active version, ``refused`` the word with which it refused one.
    """

    member: Member
    entries: int | None
    restoring: bool
    missing: tuple[str, ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class Overview:
    """Everything at one moment."""

    consortium: str
    runs: tuple[RunView, ...]
    nodes: tuple[NodeView, ...]
    versions: tuple[Version, ...]
    active: dict[str, str]

    @property
    def at_hand(self) -> RunView | None:
        """The run whose turn it is, or was last, once it has done a round."""
        return next((one for one in self.runs if one.checkpoint.records), None)


def overview(home: CoordinatorHome) -> Overview:
    """How the coordinator of ``home`` stands; ``ConfigError`` if a file of it is broken."""
    registry = home.models()
    choice = registry.active()
    return Overview(
        consortium=home.config.consortium,
        runs=runs_of(home),
        nodes=nodes_of(home),
        versions=registry.versions(),
        active={} if choice is None else choice.models,
    )


def runs_of(home: CoordinatorHome) -> tuple[RunView, ...]:
    """All runs, those that are wanted first and in their order, then the latest first."""
    queue = [one.name for one in RunFolder.queue(home.runs)]
    views = [run_of(folder, queue) for folder in RunFolder.all(home.runs)]
    views.sort(key=lambda one: one.since, reverse=True)
    return tuple(sorted(views, key=lambda one: len(queue) if one.ahead is None else one.ahead))


def run_of(folder: RunFolder, queue: list[str]) -> RunView:
    """One run; ``queue`` names those that are wanted, in their order."""
    checkpoint = read_header(folder.checkpoint)
    status, order, plan = folder.status, RunOrder.of(folder), checkpoint.plan
    privacy = None if order is None else order.privacy
    delta = USUAL_DELTA if privacy is None else privacy.budget.delta
    rounds = plan.events_by_round()

    def spent(count: int) -> float | None:
        events = [event for events in rounds[:count] for event in events]
        return epsilon(events, delta) if plan.is_private else None

    return RunView(
        name=folder.name,
        phase=status.phase,
        wanted=folder.wanted is Wanted.RUNNING,
        ahead=queue.index(folder.name) if folder.name in queue else None,
        since=status.since,
        reason=status.reason,
        delta=delta,
        spent=spent(checkpoint.round),
        planned=spent(len(rounds)),
        checkpoint=checkpoint,
    )


def nodes_of(home: CoordinatorHome) -> tuple[NodeView, ...]:
    """All nodes that ever joined, by name."""
    known = home.notary().known
    choice = home.models().active()
    deliveries = Deliveries(home)
    return tuple(
        NodeView(
            member=member,
            entries=_entries(known.get(member.name)),
            restoring=_is_restoring(known.get(member.name)),
            missing=_missing(member, deliveries.missing(member.name, choice)),
            refused=deliveries.refused(member.name, choice),
        )
        for member in home.directory().members()
    )


def _entries(known: KnownNode | None) -> int | None:
    return None if known is None or known.last is None else known.last.length


def _is_restoring(known: KnownNode | None) -> bool:
    return known is not None and known.nonce != ""


def _missing(member: Member, kinds: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(kinds)) if member.standing is Standing.APPROVED else ()
