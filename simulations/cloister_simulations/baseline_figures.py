"""The baselines of a simulation: which ones run, what they may spend, and their figures."""

from collections.abc import Mapping
from functools import partial

from cloister_shared.model_specs import Weights
from cloister_shared.privacy.noise import KeyedNoise, NoiseSource, SystemNoise
from cloister_simulations.baselines import (
    BASELINES,
    PRIVATE_BASELINES,
    Allowance,
    Baseline,
)
from cloister_simulations.config import PRIVATE_ARMS, ModelConfig, SimulationConfig
from cloister_simulations.evaluation import Evaluator
from cloister_simulations.plans import make_spec
from cloister_simulations.population import Population
from cloister_simulations.progress import Reporter
from cloister_simulations.result import Figures


def baseline_figures(
    config: SimulationConfig,
    population: Population,
    evaluator: Evaluator,
    initial_weights: Mapping[str, Weights],
    reporter: Reporter,
) -> dict[str, dict[str, Figures]]:
    """By model kind: what it knows before any training, and every baseline that was asked for."""
    train = [one.history for one in population.train(*population.institutions)]
    figures: dict[str, dict[str, Figures]] = {}
    for model in config.models:
        spec = make_spec(model, population.curriculum)
        found: dict[str, Figures] = {}
        if config.baselines:
            found["initial_weights"] = evaluator.shared(spec, initial_weights[model.kind])
        asked = asked_baselines(config, model, population)
        reporter.begin(f"baselines {model.kind}", len(asked))
        for done, (name, predict) in enumerate(asked.items(), start=1):
            scores = predict(train, evaluator.histories, population.curriculum)
            found[name] = evaluator.figures(spec, scores)
            reporter.reach(done)
        if found:
            figures[model.kind] = found
    return figures


def private_baseline_names(config: SimulationConfig) -> tuple[str, ...]:
    """Names of the baselines under differential privacy that this simulation runs."""
    if not config.private_baselines or PRIVATE_ARMS.isdisjoint(config.arms):
        return ()
    return tuple(name for model in config.models for name in PRIVATE_BASELINES.get(model.kind, {}))


def asked_baselines(
    config: SimulationConfig, model: ModelConfig, population: Population
) -> dict[str, Baseline]:
    """The baselines of one model by name, the private ones with their allowance."""
    asked = dict(BASELINES.get(model.kind, {})) if config.baselines else {}
    private = private_baseline_names(config)
    for name, predict in PRIVATE_BASELINES.get(model.kind, {}).items():
        if name in private:
            allowance = Allowance(
                budget=config.privacy.budget,
                share=model.budget_share,
                learners=sum(population.declared_sizes.values()),
                noise=_noise(config, model.kind, name),
            )
            asked[name] = partial(predict, allowance=allowance)
    return asked


def _noise(config: SimulationConfig, kind: str, name: str) -> NoiseSource:
    if config.privacy.noise == "system":
        return SystemNoise()
    return KeyedNoise(config.seed, "baseline", kind, name)
