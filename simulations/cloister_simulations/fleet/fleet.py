"""A fleet of clients in one process, which answers the coordinator as one node would.

Its contribution is the clients' weighted mean, as the coordinator would form it; so the round loop,
the server's optimizer, the checkpoint and the release are the real ones. There are no ledgers, so
there is no guarantee: a fleet is for measuring, with one noise for the sum if the plan has noise.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context

from cloister_client.flower import make_client_app
from cloister_client.node import Node
from cloister_server.checkpoint import RunState
from cloister_server.exchange import Exchange
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator, Observer, unobserved
from cloister_shared.errors import ConfigError
from cloister_shared.messages import (
    Contribution,
    EvaluateRequest,
    Receipt,
    Refusal,
    Release,
    TrainRequest,
    join,
    pack_signed,
    split,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.noise import KeyedNoise, NoiseSource, choice
from cloister_shared.privacy.release import noised
from cloister_simulations.backend.in_process import run_in_process
from cloister_simulations.fleet.clients import Clients
from cloister_simulations.fleet.sampling import NoiseOf
from cloister_simulations.fleet.trainers import Trainer
from cloister_simulations.nodes import simulated_key

NAME = "fleet"
"""The fleet's name as a node."""
KEY = simulated_key(NAME)


@dataclass
class Fleet:
    """Trains ``clients`` with a trainer for every model kind; keeps nothing of a client.

    In each round ``cohort`` clients, drawn anew, take part; None means all. ``seed`` keys all
    draws.
    """

    clients: Clients[Any]
    trainers: Mapping[str, Trainer[Any]]
    seed: int
    cohort: int | None = None
    released: dict[str, Weights] = field(default_factory=dict)
    """The finished models by kind."""

    def answer_train(self, message: bytes, receipts: bytes = b"") -> bytes:
        """The clients' mean update as one node's contribution; there is no ledger to witness."""
        del receipts
        request, arrays = unpack(message, TrainRequest)
        weights = split(arrays)
        deltas = {
            model.spec.kind: self._delta(request.plan, request.round, model, weights)
            for model in request.plan.active(request.round)
        }
        header = Contribution(plan=request.plan.digest, round=request.round, node=NAME)
        return pack_signed(header, join(deltas), KEY)

    def answer_evaluate(self, message: bytes, receipts: bytes = b"") -> bytes:
        """Nothing: a fleet's learners all train, and its figures are the simulation's own."""
        del receipts
        request, _ = unpack(message, EvaluateRequest)
        refusal = Refusal(
            plan=request.plan.digest, round=request.round, node=NAME, code="no_evaluation_learners"
        )
        return pack_signed(refusal, {}, KEY)

    def answer_release(self, message: bytes) -> bytes:
        """Keep the finished models."""
        release, arrays = unpack(message, Release)
        self.released = split(arrays)
        receipt = Receipt(plan=release.plan.digest, round=release.round, node=NAME)
        return pack_signed(receipt, {}, KEY)

    def _delta(
        self, plan: Plan, number: int, model: ModelPlan, weights: Mapping[str, Weights]
    ) -> Weights:
        kind = model.spec.kind
        noise = KeyedNoise(self.seed, NAME, plan.run, number, kind)
        trainer, total, sizes = self.trainers[kind], _Sum(), 0
        drawn = self._drawn(noise)
        for group in _groups(drawn, trainer.at_once):
            clients = self.clients.load(group)
            total.add(trainer.train(weights[kind], clients, self._noise(plan, number, kind)))
            sizes += sum(client.declared_size for client in clients)
        private = model.mechanism.is_private
        scale = -model.local.learning_rate / (len(drawn) if private else sizes)
        arrays = _noised(total.arrays, model, noise) if private else total.arrays
        return {name: (scale * array).astype(np.float32) for name, array in arrays.items()}

    def _drawn(self, noise: NoiseSource) -> range | list[int]:
        """Numbers of the round's clients, rising."""
        count = len(self.clients)
        if self.cohort is None or self.cohort >= count:
            return range(count)
        drawn: dict[int, None] = {}
        while len(drawn) < self.cohort:
            drawn |= dict.fromkeys(choice(noise, count, self.cohort - len(drawn)).tolist())
        return sorted(drawn)

    def _noise(self, plan: Plan, number: int, kind: str) -> NoiseOf:
        """What a client draws from in this round, whoever else takes part, step after step."""
        return cache(lambda client: KeyedNoise(self.seed, str(client), plan.run, number, kind))


@dataclass
class _Sum:
    """A sum of weights: of several, in float64."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, array in weights.items():
            known = self.arrays.get(name)
            self.arrays[name] = array if known is None else np.add(known, array, dtype=np.float64)


@dataclass(frozen=True)
class FleetNodes:
    """A fleet where an arm has its nodes: one participant, no node and no ledger."""

    fleet: Fleet

    @property
    def names(self) -> list[str]:
        """The fleet's name as a node."""
        return [NAME]

    def __call__(self, context: Context) -> Fleet:
        """The fleet, whatever the context."""
        del context
        return self.fleet

    def node(self, name: str) -> Node:
        """There is none."""
        raise LookupError(f"{name!r} is one of many clients of a fleet, which has no nodes")

    def restore(self, plan: Plan, state: RunState) -> None:
        """There are no ledgers that an interrupted run could have left behind."""


def run_fleet(
    plan: Plan,
    initial_weights: dict[str, Weights],
    fleet: Fleet,
    directory: Path,
    observe: Observer = unobserved,
) -> RunState:
    """Run ``plan``, made for the one node ``fleet``, to its end; resumes like any run."""
    if set(plan.declared_sizes) != {NAME}:
        raise ConfigError(f"a fleet's plan is for one node, {NAME!r}, not {plan.declared_sizes}")
    states: list[RunState] = []
    coordinator = Coordinator(plan, initial_weights, directory, observe=observe, durable=False)

    def run(exchange: Exchange, _: Context) -> None:
        states.append(coordinator.run(exchange))

    run_in_process(make_server_app(run), make_client_app(lambda _: fleet), {1: {}})
    return states[0]


def _groups(numbers: range | list[int], size: int) -> Iterator[range | list[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def _noised(
    total: Mapping[str, np.ndarray], model: ModelPlan, noise: NoiseSource
) -> dict[str, np.ndarray]:
    """A sum of clipped updates with one noise for all of it, in float64."""
    shapes, mechanism = model.spec.shapes(), model.mechanism
    release = noised(
        np.concatenate([total[name].ravel() for name in shapes], dtype=np.float64),
        mechanism.clip_norm,
        mechanism.noise_multiplier,
        mechanism.noise,
        noise,
    )
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(release, ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
