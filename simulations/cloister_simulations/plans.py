"""From a simulation's config to the plan of each arm."""

import math
from collections.abc import Mapping

from cloister_shared import planning
from cloister_shared.curriculum import Curriculum
from cloister_shared.model_specs import ModelSpec
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.planning import Allowance, mechanism_of, planned
from cloister_simulations.config import PRIVATE_ARMS, ModelConfig, SimulationConfig


def make_plan(
    config: SimulationConfig,
    run: str,
    curriculum: Curriculum,
    declared_sizes: Mapping[str, int],
    *,
    private: bool,
) -> Plan:
    """The plan of one run over the nodes of ``declared_sizes``.

    Noise multipliers are calibrated so that each model spends its share of the budget. Raises
    ``ConfigError`` where no noise would be enough.
    """
    return Plan(
        run=run,
        curriculum=curriculum.digest,
        models=tuple(
            _model_plan(config, model, curriculum, private=private) for model in config.models
        ),
        declared_sizes=dict(declared_sizes),
        quorum=max(1, math.ceil(config.quorum_share * len(declared_sizes))),
        deadline_s=config.deadline_s,
        metrics=_metric_plan(config) if private else None,
        compression=config.compression,
    )


def make_spec(model: ModelConfig, curriculum: Curriculum) -> ModelSpec:
    """The model's spec in the curriculum's size; ``ConfigError`` if its kind has no such option."""
    return planning.make_spec(model.kind, model.spec, curriculum)


def check_budget(config: SimulationConfig) -> None:
    """Raise ``BudgetExceededError`` unless every model fits its share; reads no data."""
    if PRIVATE_ARMS.isdisjoint(config.arms):
        return
    for model in config.models:
        _allowance(config).require(model.kind, model.private, model.budget_share)
    _metric_plan(config)


def _allowance(config: SimulationConfig) -> Allowance:
    privacy = config.privacy
    return Allowance(budget=privacy.budget, spare_rounds=privacy.spare_rounds)


def _metric_plan(config: SimulationConfig) -> MetricPlan | None:
    wanted = config.privacy.metrics
    if wanted is None:
        return None
    return _allowance(config).metric_plan(wanted, (one.private.rounds for one in config.models))


def _model_plan(
    config: SimulationConfig, model: ModelConfig, curriculum: Curriculum, *, private: bool
) -> ModelPlan:
    spec = make_spec(model, curriculum)
    if private:
        return _allowance(config).model_plan(spec, model.private, model.budget_share)
    return planned(spec, model.non_private, mechanism_of(model.non_private, 0.0))
