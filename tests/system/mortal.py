"""Nodes on disk in a process that kills itself at a chosen moment; every reply is kept on disk."""

import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from cloister_client.flower import make_client_app
from cloister_client.histories import History, HistorySource, Purpose
from cloister_client.node import Node
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.messages import (
    BODY_KEY,
    EVALUATE_ACTION,
    RECORD_KEY,
    RELEASE_ACTION,
    TRAIN_ACTION,
    EvaluateRequest,
    TrainRequest,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_simulations.backend.in_process import run_in_process
from cloister_simulations.config import SimulationConfig
from cloister_simulations.nodes import DiskNodes, make_homes, node_configs, node_name
from cloister_simulations.plans import make_plan
from cloister_simulations.population import Population, populate

Moment = Literal["reading", "replying", "measuring", "reporting"]


@dataclass(frozen=True)
class Death:
    """``reading``: after RESERVE and START; ``replying``: after COMMIT, before anybody is told.

    ``measuring`` and ``reporting`` are the same for metrics.
    """

    node: str
    round: int
    when: Moment


def plan_of(settings: SimulationConfig, population: Population) -> Plan:
    """The federated arm's plan."""
    sizes = population.declared_sizes
    return make_plan(settings, "federated", population.curriculum, sizes, private=True)


def initial_weights(plan: Plan, population: Population) -> dict[str, Weights]:
    """Every model's."""
    specs = [model.spec for model in plan.models]
    return {spec.kind: spec.initial_weights(population.curriculum, 1) for spec in specs}


def train(settings: SimulationConfig, directory: Path, death: Death | None = None) -> None:
    """Train the federated arm, or go on with it, over homes in ``directory/nodes``."""
    population = populate(settings)
    make_homes(directory / "nodes", population, settings.privacy.budget)
    (directory / "replies").mkdir(exist_ok=True)
    nodes = DiskNodes(directory / "nodes", seed=None)
    plan = plan_of(settings, population)
    coordinator = Coordinator(plan, initial_weights(plan, population), directory / "federated")
    run_in_process(
        make_server_app(lambda exchange, _: coordinator.run(exchange) and None),
        _mortal_app(nodes, directory / "replies", death),
        node_configs(nodes),
    )


def replies(directory: Path, node: str, round_number: int, what: str = "train") -> list[bytes]:
    """All replies of a node in a round, or to its questions ``metrics``, over all attempts."""
    found = sorted((directory / "replies").glob(f"{what}.{round_number}.{node}.*"))
    return [path.read_bytes() for path in found]


def _mortal_app(nodes: DiskNodes, kept: Path, death: Death | None) -> ClientApp:
    """The nodes' usual app, between a source that may be fatal and a keeper of replies."""
    rounds: dict[str, int] = {}

    def provide(context: Context) -> Node:
        node = nodes(context)
        deaths: dict[Death, Purpose] = {
            Death(node.name, rounds[node.name], "reading"): "train",
            Death(node.name, rounds[node.name], "measuring"): "evaluate",
        }
        if death not in deaths:
            return node
        return replace(node, source=_FatalSource(node.source, deaths[death]))

    usual, app = make_client_app(provide), ClientApp()

    def answered(message: Message, context: Context, what: str, when: Moment) -> Message:
        name, number = node_name(nodes, context), _round(message)
        rounds[name] = number
        reply = usual(message, context)
        attempt = len(replies(kept.parent, name, number, what))
        (kept / f"{what}.{number}.{name}.{attempt}").write_bytes(_body(reply))
        if death == Death(name, number, when):
            _die()
        return reply

    @app.train(TRAIN_ACTION)
    def train_round(message: Message, context: Context) -> Message:
        return answered(message, context, "train", "replying")

    @app.evaluate(EVALUATE_ACTION)
    def evaluate_round(message: Message, context: Context) -> Message:
        return answered(message, context, "metrics", "reporting")

    @app.query(RELEASE_ACTION)
    def release(message: Message, context: Context) -> Message:
        return usual(message, context)

    return app


@dataclass(frozen=True)
class _FatalSource:
    """Whoever reads a history for ``purpose`` dies."""

    inner: HistorySource
    purpose: Purpose

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        return self.inner.learners(purpose, cohorts)

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        if purpose == self.purpose:
            _die()
        return self.inner.load(learners, purpose)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _round(message: Message) -> int:
    request, _ = unpack(_body(message), TrainRequest, EvaluateRequest)
    return request.round


def _body(message: Message) -> bytes:
    body = message.content.config_records[RECORD_KEY][BODY_KEY]
    assert isinstance(body, bytes)
    return body
