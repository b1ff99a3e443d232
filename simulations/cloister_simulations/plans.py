"""From a simulation's config to the plan of each arm."""

import math
from collections.abc import Mapping

from pydantic import ValidationError

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import BudgetExceededError, ConfigError
from cloister_shared.frozen import describe
from cloister_shared.model_specs import SPECS, ModelSpec
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy.mechanism import Mechanism
from cloister_simulations.config import PRIVATE_ARMS, ModelConfig, SimulationConfig, Training


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
    try:
        return SPECS.get(model.kind).for_curriculum(curriculum, model.spec)
    except ValidationError as error:
        raise ConfigError(f"spec of the model {model.kind}: {describe(error)}") from error


def check_budget(config: SimulationConfig) -> None:
    """Raise ``BudgetExceededError`` unless every model fits its share; reads no data."""
    if PRIVATE_ARMS.isdisjoint(config.arms):
        return
    budget = config.privacy.budget
    for model in config.models:
        event = _mechanism(config, model, private=True).event(model.private.local.steps)
        allowance = math.floor(budget.limit * model.budget_share)
        try:
            budget.require([[event]] * model.private.rounds, allowance)
        except BudgetExceededError as error:
            sentence = f"model {model.kind}, {model.budget_share:g} of the budget: {error}"
            raise BudgetExceededError(sentence, error.requested, error.remaining) from error
    _metric_plan(config)


def _metric_plan(config: SimulationConfig) -> MetricPlan | None:
    """Metrics whose noise makes all releases of all models spend their share of the budget."""
    wanted = config.privacy.metrics
    if wanted is None:
        return None
    spare = config.privacy.spare_rounds
    releases = sum(
        math.ceil(model.private.rounds / wanted.every_rounds) + spare for model in config.models
    )
    noise = config.privacy.budget.calibrate(1.0, 1, releases, wanted.budget_share)
    return MetricPlan(
        every_rounds=wanted.every_rounds,
        noise_multiplier=noise,
        bins=wanted.bins,
        groups=wanted.groups,
    )


def _model_plan(
    config: SimulationConfig, model: ModelConfig, curriculum: Curriculum, *, private: bool
) -> ModelPlan:
    training = model.private if private else model.non_private
    return ModelPlan(
        spec=make_spec(model, curriculum),
        rounds=training.rounds,
        mechanism=_mechanism(config, model, private=private),
        local=training.local,
        server=training.server,
    )


def _mechanism(config: SimulationConfig, model: ModelConfig, *, private: bool) -> Mechanism:
    training = model.private if private else model.non_private
    return Mechanism(
        noise_multiplier=_noise(config, model, training) if private else 0.0,
        clip_norm=training.clip_norm,
        sampling_rate=training.sampling_rate,
    )


def _noise(config: SimulationConfig, model: ModelConfig, training: Training) -> float:
    if training.noise_multiplier is not None:
        return training.noise_multiplier
    rounds = training.rounds + config.privacy.spare_rounds
    return config.privacy.budget.calibrate(
        training.sampling_rate, training.local.steps, rounds, model.budget_share
    )
