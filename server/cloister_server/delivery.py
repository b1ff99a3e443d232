"""From a finished run to the nodes: its models are kept, promoted, and handed to every node.

A node that was away gets them when it comes back. What a node was given is noted: nobody is asked
twice, until the active versions change, or one of them is promoted once more.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from pydantic import AwareDatetime, Field

from cloister_server.checkpoint import RunState
from cloister_server.exchange import Exchange, Reply
from cloister_server.home import CoordinatorHome
from cloister_server.locked_document import LockedDocument
from cloister_server.notary import Notary
from cloister_server.orders import USUAL_DELTA, RunOrder
from cloister_server.registry import Choice, Lineage, Registry, Version
from cloister_server.run_folder import RunFolder
from cloister_shared.errors import MessageError
from cloister_shared.frozen import Frozen
from cloister_shared.messages import Receipt, Refusal, Release, join, pack, unpack
from cloister_shared.messages import Reply as Answer

DELIVERIES: Final = "deliveries.json"
ANSWER_S: Final = 120.0
"""How long nodes may take to store a version."""
AGAIN_AFTER: Final = timedelta(hours=1)
"""A node that refused a version may have another policy by then."""
SILENT_FOR: Final = timedelta(minutes=10)
"""So long a node that said nothing to a version is not asked again, unless it goes away and comes
back: whoever waits for it keeps everything else waiting."""


class Delivery(Frozen):
    """What a node was given last of one kind.

    ``refusal`` is the word with which it refused it, ``silent`` that it said nothing.
    """

    version: str
    at: AwareDatetime
    refusal: str = ""
    silent: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether the node said so."""
        return not (self.refusal or self.silent)

    def rests(self, now: datetime) -> bool:
        """Whether a node that did not store it is not to be asked again yet."""
        return now <= self.at + (SILENT_FOR if self.silent else AGAIN_AFTER)


class _Delivered(Frozen):
    """Deliveries by node and model kind."""

    nodes: dict[str, dict[str, Delivery]] = Field(default_factory=dict)


class Deliveries:
    """Which node got which version."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._document = LockedDocument(home.registry / DELIVERIES, _Delivered())

    def missing(self, node: str, choice: Choice | None) -> dict[str, str]:
        """Active versions that the node has not stored, by kind."""
        given = self._document.read().nodes.get(node, {})
        return {
            kind: version
            for kind, version in (choice.models if choice else {}).items()
            if kind not in given or given[kind].version != version or not given[kind].is_stored
        }

    def refused(self, node: str, choice: Choice | None) -> dict[str, str]:
        """With which word the node refused an active version, by kind."""
        given = self._document.read().nodes.get(node, {})
        return {
            kind: given[kind].refusal
            for kind, version in self.missing(node, choice).items()
            if kind in given and given[kind].version == version and given[kind].refusal
        }

    def due(self, node: str, choice: Choice | None) -> dict[str, str]:
        """What the node is to be given now: what is missing, but for what it rests from."""
        given = self._document.read().nodes.get(node, {})
        now = datetime.now(UTC)
        return {
            kind: version
            for kind, version in self.missing(node, choice).items()
            if kind not in given or given[kind].version != version or not given[kind].rests(now)
        }

    def note(
        self, node: str, versions: Mapping[str, str], refusal: str = "", *, silent: bool = False
    ) -> None:
        """Remember that a node stored versions, by kind, or refused them, or said nothing."""
        now = datetime.now(UTC)
        news = {
            kind: Delivery(version=version, at=now, refusal=refusal, silent=silent)
            for kind, version in versions.items()
        }
        self._document.change(
            lambda before: _Delivered(
                nodes={**before.nodes, node: {**before.nodes.get(node, {}), **news}}
            )
        )

    def forget(self, versions: Collection[str]) -> None:
        """Give these versions to every node once more, if they are active."""
        self._drop(lambda _, one: one.version in versions)

    def excuse(self, there: Collection[str]) -> None:
        """Forget that nodes were silent which are not ``there``: they come back as new."""
        self._drop(lambda node, one: one.silent and node not in there)

    def _drop(self, is_unwanted: Callable[[str, Delivery], bool]) -> None:
        def change(before: _Delivered) -> _Delivered:
            nodes = {
                node: {kind: one for kind, one in given.items() if not is_unwanted(node, one)}
                for node, given in before.nodes.items()
            }
            return before if nodes == before.nodes else _Delivered(nodes=nodes)

        self._document.change(change)


def publish(home: CoordinatorHome, folder: RunFolder, state: RunState) -> None:
    """Keep the models of a finished run, and promote them if that was ordered."""
    order = RunOrder.of(folder)
    privacy = None if order is None else order.privacy
    registry = home.models()
    lineage = Lineage(
        delta=USUAL_DELTA if privacy is None else privacy.budget.delta,
        keys={member.name: member.signing_key for member in home.directory().members()},
        parents={} if order is None else order.parents,
        audit=folder.audit,
    )
    made = registry.add(state, lineage)
    if order is None or order.promote:
        registry.promote(one.version for one in made)


class Courier:
    """Hands active versions to nodes."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._registry = home.models()
        self._deliveries = Deliveries(home)
        self._notary = home.notary()

    def due(self, there: Collection[str]) -> list[str]:
        """Those of the nodes that are ``there`` for whom there is something.

        Who is away was excused: it is asked as soon as it is back.
        """
        self._deliveries.excuse(there)
        choice = self._registry.active()
        return [node for node in there if self._deliveries.due(node, choice)]

    def deliver(self, exchange: Exchange, names: Mapping[int, str]) -> None:
        """Give every node of ``names``, by Flower's id, what is due, and note what it says.

        Who says nothing to one release is not asked about the next.
        """
        choice = self._registry.active()
        if choice is None:
            return
        due = {node: self._deliveries.due(name, choice) for node, name in names.items()}
        for release in _releases(self._registry, choice):
            given = _versions(release)
            asked = [node for node, kinds in due.items() if kinds.items() & given.items()]
            heard = self._ask(exchange, release, choice, {node: names[node] for node in asked})
            for node in asked:
                if node in heard:
                    due[node] = dict(due[node].items() - given.items())
                else:
                    self._deliveries.note(names[node], due.pop(node), silent=True)

    def _ask(
        self, exchange: Exchange, release: list[Version], choice: Choice, names: Mapping[int, str]
    ) -> set[int]:
        """Who of ``names`` says something to the release; it is noted."""
        if not names:
            return set()
        bodies = dict.fromkeys(names, _message(self._registry, release, choice))
        replies = exchange.ask("release", bodies, release[0].manifest.round, ANSWER_S)
        return {
            one.sender for one in replies if self._note(one, names.get(one.sender, ""), release)
        }

    def _note(self, reply: Reply, name: str, release: list[Version]) -> bool:
        """What an approved node said in its own name; anything else is as good as silence."""
        answer = _answer(reply, self._notary)
        if answer is None or answer.node != name:
            return False
        if isinstance(answer, Refusal):
            self._deliveries.note(name, _versions(release), answer.code)
            return True
        first = release[0].manifest
        if (answer.plan, answer.round) != (first.plan, first.round):
            return False
        self._deliveries.note(name, _versions(release))
        return True


def _releases(registry: Registry, choice: Choice) -> Iterator[list[Version]]:
    """The active versions, together where they are of one run."""

    def run(version: Version) -> tuple[str, int]:
        return version.manifest.plan, version.manifest.round

    active = [registry.get(name) for name in choice.models.values()]
    for _, versions in groupby(sorted(active, key=run), key=run):
        yield list(versions)


def _versions(release: list[Version]) -> dict[str, str]:
    """A release's versions by kind."""
    return {one.manifest.kind: one.manifest.version for one in release}


def _message(registry: Registry, release: list[Version], choice: Choice) -> bytes:
    first = release[0]
    header = Release(
        plan=first.plan,
        round=first.manifest.round,
        serial=choice.serial,
        manifests=tuple(one.signed for one in release),
    )
    return pack(header, join({one.manifest.kind: registry.weights(one) for one in release}))


def _answer(reply: Reply, notary: Notary) -> Answer | None:
    try:
        answer, arrays = unpack(reply.body or b"", Receipt, Refusal)
        notary.check(answer, arrays)
    except MessageError:
        return None
    return answer
