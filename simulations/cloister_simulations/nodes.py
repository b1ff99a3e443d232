"""The nodes of a simulation: in memory, or as homes on disk like any institution's."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from flwr.app import Context
from flwr.app.user_config import UserConfig
from pydantic import ValidationError

from cloister_client.app import node_from_home
from cloister_client.config import NodeConfig
from cloister_client.flower import Participant
from cloister_client.histories import HistorySource, Interaction
from cloister_client.home import NodeHome
from cloister_client.ledger import Ledger, MemoryLedger
from cloister_client.node import Node, NoiseFactory, system_noise
from cloister_client.residuals import MemoryResiduals
from cloister_server.checkpoint import MetricRecord, RoundRecord, RunState
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, LedgerError
from cloister_shared.frozen import describe
from cloister_shared.messages import Release
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.ledger_format import Charge, Role
from cloister_shared.privacy.noise import KeyedNoise, NoiseSource
from cloister_shared.privacy.policy import Policy
from cloister_shared.signing import SigningKey
from cloister_simulations.dataset import LearnerRecord
from cloister_simulations.population import Population

NODE_KEY = "cloister-node"
"""Where a Flower node config of ours says which node it is."""
_OPENED: dict[tuple[Path, int | None], dict[str, Node]] = {}
"""Nodes on disk that copies of a ``DiskNodes`` opened in this process."""


class SimulatedNodes(Protocol):
    """The nodes of one arm; also the provider that the ClientApp asks."""

    @property
    def names(self) -> list[str]:
        """Names of all nodes, sorted."""

    def __call__(self, context: Context) -> Participant:
        """Who answers for a Flower context."""

    def node(self, name: str) -> Node:
        """The node called ``name``; ``LookupError`` where nobody is a node with a ledger."""

    def restore(self, plan: Plan, state: RunState) -> None:
        """Make sure that the ledgers hold the charges of an interrupted run's rounds."""


def node_configs(nodes: SimulatedNodes) -> dict[int, UserConfig]:
    """A Flower node id and config for every node."""
    return {number: {NODE_KEY: name} for number, name in enumerate(nodes.names, start=1)}


def node_name(nodes: SimulatedNodes, context: Context) -> str:
    """Which node a context means; Flower's Ray engine only numbers its nodes."""
    config = context.node_config
    if NODE_KEY in config:
        return str(config[NODE_KEY])
    return nodes.names[int(config["partition-id"])]


def simulated_key(name: str) -> SigningKey:
    """The key of a node in memory: always the same, and anybody can make it."""
    return SigningKey.from_bytes(hashlib.sha256(name.encode()).digest())


def keyed_noise(seed: int, name: str, plan: Plan, round_number: int, kind: str) -> NoiseSource:
    """Reproducible noise, separate for every node, run, round and model kind."""
    return KeyedNoise(seed, name, plan.run, round_number, kind)


@dataclass
class MemoryNodes:
    """Nodes over sources in memory; released models stay in ``models``."""

    curriculum: Curriculum
    sources: Mapping[str, HistorySource]
    declared_sizes: Mapping[str, int]
    budget: Budget
    seed: int | None
    """Key of reproducible noise; None for the system's."""
    enforced: bool
    models: dict[tuple[str, str], Weights] = field(default_factory=dict)
    _ledgers: dict[str, Ledger] = field(default_factory=dict)
    _residuals: dict[str, MemoryResiduals] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all nodes, sorted."""
        return sorted(self.sources)

    def __call__(self, context: Context) -> Node:
        """The node that a Flower context belongs to."""
        return self.node(node_name(self, context))

    def node(self, name: str) -> Node:
        """The node called ``name``; its ledger lives as long as this object."""
        return Node(
            name=name,
            key=simulated_key(name),
            declared_size=self.declared_sizes[name],
            curriculum=self.curriculum,
            policy=simulation_policy(self.budget, self.declared_sizes[name]),
            source=self.sources[name],
            ledger=self._ledger(name),
            install=partial(self._install, name),
            noise=noise_factory(self.seed, name),
            residuals=self._residuals.setdefault(name, MemoryResiduals()),
        )

    def _ledger(self, name: str) -> Ledger:
        if name not in self._ledgers:
            self._ledgers[name] = MemoryLedger(self.budget, self.enforced, simulated_key(name))
        return self._ledgers[name]

    def restore(self, plan: Plan, state: RunState) -> None:
        """Charge again what the lost ledgers were charged for: every node was asked every time.

        Also a node whose reply was rejected: its data had been read.
        """
        for name in self.names:
            for record in state.records:
                _charge_again(self.node(name), plan, record.round, "train")
            for measured in state.metrics:
                _charge_again(self.node(name), plan, measured.round, "evaluation")

    def _install(self, name: str, release: Release, weights: Mapping[str, Weights]) -> None:
        del release
        self.models |= {(name, kind): arrays for kind, arrays in weights.items()}


@dataclass
class DiskNodes:
    """Node homes under ``directory``, opened in whichever process asks."""

    directory: Path
    seed: int | None
    _open: dict[str, Node] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of all nodes, sorted."""
        return sorted(path.name for path in self.directory.iterdir() if path.is_dir())

    def __call__(self, context: Context) -> Node:
        """The node that a Flower context belongs to."""
        return self.node(node_name(self, context))

    def node(self, name: str) -> Node:
        """The node whose home is called ``name``, opened once a process."""
        if name not in self._open:
            node = node_from_home(self.home(name))
            self._open[name] = replace(node, noise=noise_factory(self.seed, name))
        return self._open[name]

    def home(self, name: str) -> NodeHome:
        """The home called ``name``."""
        return NodeHome.open(self.directory / name)

    def restore(self, plan: Plan, state: RunState) -> None:
        """Check that the ledgers on disk kept the charges of all replies that were received.

        Raises ``LedgerError`` where one did not: its home was removed or replaced.
        """
        received: dict[Role, list[RoundRecord] | list[MetricRecord]] = {
            "train": state.records,
            "evaluation": state.metrics,
        }
        for name, (role, records) in product(self.names, received.items()):
            rounds = {record.round for record in records if name in record.participants}
            missing = rounds - self.node(name).ledger.rounds_released(plan.run, role)
            if missing:
                raise LedgerError(
                    f"node {name} gave {len(rounds)} contributions to run {plan.run}, its ledger "
                    f"knows nothing of {len(missing)} of them: its home was replaced; remove "
                    f"{self.directory.parent} to begin anew"
                )

    def __getstate__(self) -> dict[str, object]:
        """Open files do not travel to other processes."""
        return {"directory": self.directory, "seed": self.seed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies in one process share what they opened: Ray sends one with every message."""
        self.directory, self.seed = state["directory"], state["seed"]
        self._open = _OPENED.setdefault((self.directory, self.seed), {})


def make_homes(directory: Path, population: Population, budget: Budget) -> None:
    """Create the homes that are missing and import their learners; what is there is kept.

    Raises ``ConfigError`` if an institution's name cannot be a node's.
    """
    for name, size in population.declared_sizes.items():
        if not (directory / name).exists():
            config = _node_config(name, size, budget, population.groups)
            NodeHome.create(directory / name, config, population.curriculum)
    for name in population.institutions:
        import_learners(NodeHome.open(directory / name), population, name)


def import_learners(home: NodeHome, population: Population, name: str) -> None:
    """Give a home the learners of the institution ``name``, with their roles."""
    records = population.institutions[name]
    roles = {one.key: population.roles[one.key] for one in records}
    with home.store() as store:
        store.import_interactions(_interactions(records, population.curriculum), roles=roles)


def simulation_policy(budget: Budget, declared_size: int) -> Policy:
    """A policy that lets researchers do everything but exceed the budget."""
    return Policy(
        budget=budget,
        min_noise_multiplier=0.0,
        min_metric_noise_multiplier=0.0,
        max_sampling_rate=1.0,
        max_clip_norm=1e6,
        max_local_steps=1_000_000,
        max_parameters=2**40,
        min_window=2,
        max_window=2**31,
        max_membership_advantage=None,
        min_declared_size=min(50, declared_size),
        allow_without_guarantee=True,
    )


def noise_factory(seed: int | None, name: str) -> NoiseFactory:
    """Keyed noise of ``seed`` for the node ``name``, or the system's if there is none."""
    return system_noise if seed is None else partial(keyed_noise, seed, name)


def _node_config(
    name: str, declared_size: int, budget: Budget, groups: tuple[str, ...]
) -> NodeConfig:
    try:
        return NodeConfig(
            name=name,
            declared_size=declared_size,
            policy=simulation_policy(budget, declared_size),
            simulation=True,
            groups=groups,
        )
    except ValidationError as error:
        raise ConfigError(f"institution {name!r} cannot be on disk: {describe(error)}") from error


def _charge_again(node: Node, plan: Plan, round_number: int, role: Role) -> None:
    events = plan.charge_events if role == "train" else plan.metric_events
    reservation = node.ledger.reserve(
        Charge(
            run=plan.run,
            round=round_number,
            plan=plan.digest,
            request="restored",
            role=role,
            cohorts=node.cohorts,
            events=events(round_number),
        )
    )
    node.ledger.start(reservation)
    node.ledger.commit(reservation, b"")


def _interactions(
    records: Iterable[LearnerRecord], curriculum: Curriculum
) -> Iterator[Interaction]:
    """Histories back in the form in which an LMS tells them."""
    for record in records:
        history = record.history
        for position in range(len(history)):
            skills = history.skills[position]
            yield Interaction(
                learner=record.key,
                item=curriculum.items[history.items[position]].id,
                correct=bool(history.correct[position]),
                when=float(history.when[position]),
                key=str(position),
                skills=tuple(curriculum.skills[skill].id for skill in skills[skills >= 0]),
                group=record.group,
            )
