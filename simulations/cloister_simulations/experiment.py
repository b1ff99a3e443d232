"""One simulation from config to result: data, homes, arms, baselines, spend."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from pydantic import JsonValue

from cloister_client.node import Node
from cloister_client.training.process import tune_process
from cloister_shared import __version__
from cloister_shared.canonical import digest
from cloister_shared.model_specs import Weights
from cloister_shared.privacy.budget_report import BudgetReport
from cloister_simulations.arms import ArmRunner
from cloister_simulations.baseline_figures import baseline_figures, private_baseline_names
from cloister_simulations.claims import claim_data, claim_directory
from cloister_simulations.config import SimulationConfig
from cloister_simulations.plans import check_budget, make_spec
from cloister_simulations.population import Population, populate
from cloister_simulations.pretraining import pretrained_weights
from cloister_simulations.progress import Reporter
from cloister_simulations.result import (
    Arm,
    Guarantee,
    NodeResult,
    SimulationResult,
    Spend,
)

_pretrained = lru_cache(maxsize=2)(pretrained_weights)
"""A sweep starts many simulations of one seed from the same public weights."""
LIBRARIES = ("torch", "opacus", "flwr", "numpy", "dp-accounting", "scikit-learn")


@dataclass(frozen=True)
class Deployed:
    """The federated arm as a deployment did it; ``spend`` by node is what its ledgers say."""

    arm: Arm
    spend: Mapping[str, BudgetReport]


def run_simulation(
    config: SimulationConfig,
    directory: Path,
    reporter: Reporter,
    command: str,
    deployed: Deployed | None = None,
) -> SimulationResult:
    """Run every arm and baseline of ``config``; an interrupted simulation resumes.

    The federated arm is taken from ``deployed`` if that is given. ``directory`` keeps checkpoints,
    node homes and metrics. Raises ``BudgetExceededError`` before
    any data is read if the private arms do not fit the budget, and ``ConfigError`` if the
    directory is another simulation's.
    """
    began = perf_counter()
    check_budget(config)
    claim_directory(directory, config)
    tune_process()
    population = populate(config)
    claim_data(directory, population.digest())
    runner = ArmRunner(
        config, population, _initial_weights(config, population, reporter), directory, reporter
    )
    arms: list[Arm] = []
    nodes = tuple(_node_result(population, name, ()) for name in population.institutions)
    for name in config.arms:
        if name == "federated" and deployed is not None:
            arms.append(deployed.arm)
            nodes = tuple(
                _node_result(population, one, _reported(report))
                for one, report in deployed.spend.items()
            )
            continue
        arm, arm_nodes = runner.run(name)
        arms.append(arm)
        if name == "federated":
            nodes = tuple(
                _node_result(population, one, _spend(arm_nodes.node(one)))
                for one in arm_nodes.names
            )
    figures = baseline_figures(
        config, population, runner.evaluator, runner.initial_weights, reporter
    )
    return SimulationResult(
        cloister_version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        config=config.model_dump(mode="json"),
        config_digest=digest(config.model_dump(mode="json")),
        seeds={"simulation": config.seed},
        machine=_machine(),
        wall_clock_s=perf_counter() - began + (deployed.arm.seconds if deployed else 0.0),
        guarantee=_guarantee(config),
        nodes=nodes,
        arms=tuple(arms),
        baselines=figures,
        private_baselines=private_baseline_names(config),
    )


def _initial_weights(
    config: SimulationConfig, population: Population, reporter: Reporter
) -> dict[str, Weights]:
    weights: dict[str, Weights] = {}
    for model in config.models:
        spec = make_spec(model, population.curriculum)
        if model.pretraining is None:
            weights[model.kind] = spec.initial_weights(population.curriculum, config.seed)
        else:
            reporter.begin(f"pretraining {model.kind}", 1)
            weights[model.kind] = _pretrained(
                spec, population.curriculum, model.pretraining, config.seed
            )
            reporter.reach(1)
    return weights


def _node_result(population: Population, name: str, spend: tuple[Spend, ...]) -> NodeResult:
    return NodeResult(
        name=name,
        declared_size=population.declared_sizes[name],
        learners_train=len(population.train(name)),
        learners_evaluation=len(population.evaluation(name)),
        spend=spend,
    )


def _spend(node: Node) -> tuple[Spend, ...]:
    header = node.ledger.header
    return tuple(
        Spend(
            role=role,
            cohort=cohort,
            epsilon_pld=spend.epsilon(header.budget.delta, "pld"),
            epsilon_rdp=spend.epsilon(header.budget.delta, "rdp", order=header.order),
        )
        for (role, cohort), spend in node.ledger.spent().items()
    )


def _reported(report: BudgetReport) -> tuple[Spend, ...]:
    return tuple(
        Spend(
            role=one.role,
            cohort=one.cohort,
            epsilon_pld=one.epsilon_pld,
            epsilon_rdp=one.epsilon_rdp,
        )
        for one in report.groups
    )


def _guarantee(config: SimulationConfig) -> Guarantee:
    budget = config.privacy.budget
    if "federated" not in config.arms:
        return Guarantee(kind="none", reason="no federated arm with noise was run")
    if config.privacy.noise == "keyed":
        return Guarantee(
            kind="none",
            reason="the noise is reproducible (privacy.noise: keyed); use noise: system",
            epsilon_limit=budget.epsilon,
            delta=budget.delta,
        )
    return Guarantee(
        kind="learner_level_dp",
        reason="every learner's whole history, over all models and metrics of the federated arm",
        epsilon_limit=budget.epsilon,
        delta=budget.delta,
    )


def _machine() -> Mapping[str, JsonValue]:
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
