"""The homes of a consortium on this machine: made, filled and joined.

All of it by the functions behind the commands that operators and schools type.
"""

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cloister_client.config import NodeConfig, ServingConfig
from cloister_client.home import CONFIG as NODE_CONFIG
from cloister_client.home import NodeHome
from cloister_client.joining import join
from cloister_server.config import CoordinatorConfig, Limits
from cloister_server.home import CONFIG as COORDINATOR_CONFIG
from cloister_server.home import CoordinatorHome
from cloister_server.invitations import Invitations
from cloister_shared.errors import ConfigError
from cloister_shared.fingerprints import node_fingerprint, require_fingerprint
from cloister_shared.kit import Standing
from cloister_shared.privacy.policy import Policy
from cloister_simulations.claims import NODES_DIRECTORY, claim_data, claim_directory
from cloister_simulations.config import SimulationConfig
from cloister_simulations.nodes import import_learners
from cloister_simulations.poc.processes import COORDINATOR
from cloister_simulations.population import Population, populate

LOOPBACK = "127.0.0.1"
_ANY_PORT = 0
_JOINS_PER_MINUTE = 6


@dataclass(frozen=True)
class Consortium:
    """The consortium in ``folder``, of the schools, learners and models of ``config``."""

    folder: Path
    config: SimulationConfig

    @classmethod
    def claim(cls, folder: Path, config: SimulationConfig) -> "Consortium":
        """Take the folder for a consortium of these settings.

        Raises ``ConfigError`` if it holds something else, or settings that no real node would take.
        """
        _require_deployable(config)
        coordinator, nodes = folder / COORDINATOR, folder / NODES_DIRECTORY
        if nodes.exists() and not coordinator.exists():
            raise ConfigError(
                f"{nodes} holds the nodes of a simulation, which belong to no coordinator; name "
                "another folder, or remove that one"
            )
        claim_directory(folder, config)
        return cls(folder, config)

    @cached_property
    def population(self) -> Population:
        """The synthetic learners by school."""
        return populate(self.config)

    def coordinator(self) -> CoordinatorHome:
        """The coordinator's home, made first if there is none: with free ports of this machine."""
        path = self.folder / COORDINATOR
        if (path / COORDINATOR_CONFIG).exists():
            return CoordinatorHome.open(path)
        claim_data(self.folder, self.population.digest())
        port, control_port, console_port = _free_ports(3)
        config = CoordinatorConfig(
            consortium=self.config.name,
            address=LOOPBACK,
            listen=LOOPBACK,
            port=port,
            control_port=control_port,
            console_port=console_port,
            limits=Limits(
                joins_per_minute=max(_JOINS_PER_MINUTE, 2 * len(self.population.institutions))
            ),
        )
        return CoordinatorHome.create(path, config, self.population.curriculum)

    def school(self, name: str) -> NodeHome:
        """A school's home with its learners' answers, made first if there is none."""
        path = self.folder / NODES_DIRECTORY / name
        if not (path / NODE_CONFIG).exists():
            NodeHome.create(path, self._node_config(name), self.population.curriculum)
        home = NodeHome.open(path)
        with home.store() as store:
            is_filled = store.counts().learners > 0
        if not is_filled:
            import_learners(home, self.population, name)
        return home

    def enrol(self, name: str) -> None:
        """Let a school join, and approve it, unless that was done: both sides compare fingerprints.

        Raises ``ServiceError`` if the coordinator is not up.
        """
        coordinator = self.coordinator()
        home = NodeHome.open(self.folder / NODES_DIRECTORY / name)
        member = coordinator.directory().get(name)
        if member is None or member.standing is not Standing.APPROVED:
            kit = Invitations(coordinator).issue(name)
            join(kit, coordinator.fingerprint, home.path, None)
            member = coordinator.directory().get(name)
        if member is not None and member.standing is Standing.PENDING:
            shown = node_fingerprint(home.signing_key().public, home.transport_public_key())
            require_fingerprint(shown, member.fingerprint, f"the node {name}")
            coordinator.directory().approve(name)

    def _node_config(self, name: str) -> NodeConfig:
        """An institution's usual policy; a simulation only in that roles of learners are given."""
        return NodeConfig(
            name=name,
            simulation=True,
            declared_size=self.population.declared_sizes[name],
            groups=self.population.groups,
            policy=Policy(budget=self.config.privacy.budget),
            serving=ServingConfig(port=_ANY_PORT),
        )


def _require_deployable(config: SimulationConfig) -> None:
    """Raise ``ConfigError`` for what only a simulation can do."""
    if config.storage != "disk" or "federated" not in config.arms:
        raise ConfigError("a consortium of processes needs storage: disk and the federated arm")
    if config.privacy.noise != "system":
        raise ConfigError("real nodes draw noise from the system; set privacy.noise: system")
    if any(model.pretraining is not None for model in config.models):
        raise ConfigError("real runs start from initial weights; remove the models' pretraining")


def _free_ports(count: int) -> list[int]:
    """Different ports of this machine that nobody listens on."""
    with ExitStack() as open_ones:
        listeners = [
            open_ones.enter_context(socket.create_server((LOOPBACK, _ANY_PORT)))
            for _ in range(count)
        ]
        return [int(listener.getsockname()[1]) for listener in listeners]
