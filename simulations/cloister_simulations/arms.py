"""The arms of a simulation: the same round loop over differently grouped learners."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from cloister_client.flower import make_client_app
from cloister_server.checkpoint import MetricRecord, RoundRecord, RunState, load_checkpoint
from cloister_server.flower import make_server_app
from cloister_server.notary import Notary
from cloister_server.rounds import Coordinator
from cloister_shared.frozen import Frozen
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.audit_report import AuditReport
from cloister_simulations.auditing import AUDIT, audit_arm
from cloister_simulations.backend import run_apps
from cloister_simulations.claims import NODES_DIRECTORY
from cloister_simulations.config import PRIVATE_ARMS, ArmName, SimulationConfig
from cloister_simulations.evaluation import Evaluator
from cloister_simulations.fleet import (
    NAME,
    Client,
    Fleet,
    FleetNodes,
    MemoryClients,
    client_trainer,
)
from cloister_simulations.interruption import interruptible_between_rounds
from cloister_simulations.nodes import DiskNodes, MemoryNodes, SimulatedNodes, make_homes
from cloister_simulations.plans import make_plan, make_spec
from cloister_simulations.population import Population
from cloister_simulations.progress import Reporter
from cloister_simulations.result import Arm, Figures, Metrics, RoundResult

METRICS = "metrics.jsonl"
"""Where an arm's folder has the exact figures by round."""
POOL = "pool"
"""Name of the one node that holds everybody in the pooled arms."""


class _Line(Frozen):
    """One line of a run's metrics file."""

    round: int
    metrics: dict[str, Metrics]


@dataclass
class ArmRunner:
    """Runs arms; ``directory`` keeps what a later call needs to resume."""

    config: SimulationConfig
    population: Population
    initial_weights: dict[str, Weights]
    directory: Path
    reporter: Reporter
    evaluator: Evaluator = field(init=False)

    def __post_init__(self) -> None:
        self.evaluator = self.population.evaluator(self.config.evaluation.predictions)

    def run(self, arm: ArmName) -> tuple[Arm, SimulatedNodes]:
        """Train one arm to its end, resuming where an earlier call stopped; and its nodes."""
        began = perf_counter()
        nodes = self.nodes(arm)
        rounds, final = self._local_only() if arm == "local_only" else self._shared(arm, nodes)
        seconds = perf_counter() - began
        done = Arm(
            name=arm,
            private=arm in PRIVATE_ARMS,
            rounds=rounds,
            final=final,
            seconds=seconds,
            audit=self._audit(arm, nodes),
        )
        return done, nodes

    def nodes(self, arm: ArmName) -> SimulatedNodes:
        """The nodes of an arm; only those of ``federated`` may be homes on disk."""
        names = list(self.population.institutions)
        if self._is_fleet(arm):
            return self._fleet(self.plan(arm))
        if arm == "federated" and self.config.storage == "disk":
            return DiskNodes(self.directory / NODES_DIRECTORY, self._noise_key(private=True))
        apart = {name: (name,) for name in names}
        groups = {POOL: tuple(names)} if arm.startswith("pooled") else apart
        return self._memory_nodes(groups, private=arm in PRIVATE_ARMS)

    def plan(self, arm: ArmName) -> Plan:
        """The plan of a shared arm."""
        sizes = self.population.declared_sizes
        if arm.startswith("pooled"):
            sizes = {POOL: sum(sizes.values())}
        elif self._is_fleet(arm):
            sizes = {NAME: sum(sizes.values())}
        return make_plan(
            self.config, arm, self.population.curriculum, sizes, private=arm in PRIVATE_ARMS
        )

    def _is_fleet(self, arm: ArmName) -> bool:
        return self.config.together and arm == "federated_non_private"

    def _fleet(self, plan: Plan) -> FleetNodes:
        """All institutions behind one participant; they have neither messages nor ledgers."""
        clients = [
            Client(number, size, [one.history for one in self.population.train(name)])
            for number, (name, size) in enumerate(self.population.declared_sizes.items())
        ]
        trainers = {model.spec.kind: client_trainer(model) for model in plan.models}
        return FleetNodes(Fleet(MemoryClients(clients), trainers, self.config.seed))

    def _shared(
        self, arm: ArmName, nodes: SimulatedNodes
    ) -> tuple[tuple[RoundResult, ...], dict[str, Figures]]:
        """One model for everybody, with its figures by round."""
        plan = self.plan(arm)
        if isinstance(nodes, DiskNodes):
            make_homes(nodes.directory, self.population, self.config.privacy.budget)
        log = MetricLog(self.directory / arm / METRICS)
        state = self._train(plan, nodes, log)
        return round_results(state, log.read()), final_figures(state, self.evaluator)

    def _audit(self, arm: ArmName, nodes: SimulatedNodes) -> tuple[AuditReport, ...]:
        """What the audit of an arm with noise found, where audits are asked for."""
        privacy = self.config.privacy
        if not privacy.audit or arm not in PRIVATE_ARMS:
            return ()
        file = self.directory / arm / AUDIT
        return audit_arm(self.plan(arm), nodes, file, privacy.budget.delta, self.reporter)

    def _local_only(self) -> tuple[tuple[RoundResult, ...], dict[str, Figures]]:
        """Every institution alone, without noise, each with a model of its own."""
        weights: dict[str, dict[str, Weights]] = {}
        for number, (name, size) in enumerate(self.population.declared_sizes.items(), start=1):
            plan = make_plan(
                self.config,
                f"local_only.{number}",
                self.population.curriculum,
                {name: size},
                private=False,
            )
            nodes = self._memory_nodes({name: (name,)}, private=False)
            state = self._train(plan, nodes, None)
            for kind, trained in state.weights.items():
                weights.setdefault(kind, {})[name] = trained
        specs = [make_spec(model, self.population.curriculum) for model in self.config.models]
        return (), {spec.kind: self.evaluator.own(spec, weights[spec.kind]) for spec in specs}

    def _train(self, plan: Plan, nodes: SimulatedNodes, log: "MetricLog | None") -> RunState:
        with interruptible_between_rounds() as stop_if_asked:
            return self._run_rounds(plan, nodes, log, stop_if_asked)

    def _run_rounds(
        self,
        plan: Plan,
        nodes: SimulatedNodes,
        log: "MetricLog | None",
        stop_if_asked: Callable[[], None],
    ) -> RunState:
        """Do the rounds that are left, all of them at first."""
        self.reporter.begin(plan.run, plan.rounds)

        def observe(record: RoundRecord, weights: Mapping[str, Weights]) -> None:
            self.reporter.reach(record.round)
            if log is not None:
                log.append(record.round, self._metrics(plan, record.round, weights))
            stop_if_asked()

        coordinator = Coordinator(
            plan,
            self.initial_weights,
            self.directory / plan.run,
            observe=observe,
            # Ledgers in memory are made anew when a run is resumed.
            own_notary=None if isinstance(nodes, DiskNodes) else Notary.passing(),
        )
        interrupted = load_checkpoint(coordinator.checkpoint_path, plan)
        if interrupted is not None and interrupted.records:
            nodes.restore(plan, interrupted)
            # Again: the interruption may have come between the checkpoint and the figures.
            observe(interrupted.records[-1], interrupted.weights)
        states: list[RunState] = []
        server_app = make_server_app(lambda exchange, _: states.append(coordinator.run(exchange)))
        # Nodes in memory cannot be shared with other processes.
        backend = self.config.backend if isinstance(nodes, DiskNodes) else "in_process"
        run_apps(backend, server_app, make_client_app(nodes), nodes)
        return states[0]

    def _metrics(
        self, plan: Plan, number: int, weights: Mapping[str, Weights]
    ) -> dict[str, Metrics]:
        """Exact figures of the models that this round trained, where a look or a release is due."""
        return {
            model.spec.kind: self.evaluator.shared(model.spec, weights[model.spec.kind]).all
            for model in plan.active(number)
            if number % self.config.evaluate_every_rounds == 0
            or number == model.rounds
            or model in plan.measured(number)
        }

    def _memory_nodes(self, groups: Mapping[str, tuple[str, ...]], *, private: bool) -> MemoryNodes:
        sizes = self.population.declared_sizes
        return MemoryNodes(
            curriculum=self.population.curriculum,
            sources={name: self.population.source(*members) for name, members in groups.items()},
            declared_sizes={
                name: sum(sizes[member] for member in members) for name, members in groups.items()
            },
            budget=self.config.privacy.budget,
            seed=self._noise_key(private=private),
            enforced=private,
        )

    def _noise_key(self, *, private: bool) -> int | None:
        """Without a guarantee to keep, everything is reproducible."""
        system = private and self.config.privacy.noise == "system"
        return None if system else self.config.seed


def round_results(
    state: RunState, metrics: Mapping[int, dict[str, Metrics]]
) -> tuple[RoundResult, ...]:
    """What was seen of each round: by the coordinator, by nodes, and exactly in ``metrics``."""
    released = {one.round: one for one in state.metrics}
    return tuple(
        RoundResult(
            **record.model_dump(),
            metrics=metrics.get(record.round, {}),
            **_released(released.get(record.round)),
        )
        for record in state.records
    )


def final_figures(state: RunState, evaluator: Evaluator) -> dict[str, Figures]:
    """Exact figures of the finished models, by kind."""
    specs = [model.spec for model in state.plan.models]
    return {spec.kind: evaluator.shared(spec, state.weights[spec.kind]) for spec in specs}


def _released(record: MetricRecord | None) -> dict[str, Any]:
    """What nodes released after a round, as fields of its result."""
    if record is None:
        return {}
    return {"private_metrics": record.figures, "private_breakdowns": record.breakdowns}


class MetricLog:
    """Figures by round, kept beside the checkpoint so that a resumed run shows them all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, number: int, metrics: dict[str, Metrics]) -> None:
        """Keep the figures of one round, if there are any."""
        if metrics:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_Line(round=number, metrics=metrics).model_dump_json() + "\n")

    def read(self) -> dict[int, dict[str, Metrics]]:
        """All figures by round; a round that was done again counts once."""
        if not self._path.exists():
            return {}
        lines = map(_Line.model_validate_json, self._path.read_text("utf-8").splitlines())
        return {line.round: line.metrics for line in lines}
