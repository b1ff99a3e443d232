"""The same simulation at several ε and seeds: mean and standard deviation of every figure.

What has no noise does not depend on ε and runs once for each seed. Every simulation keeps a folder
of its own; finished ones are kept, an interrupted one resumes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cloister_shared.canonical import digest
from cloister_shared.durable import write_durably
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen
from cloister_simulations.config import PRIVATE_ARMS, SimulationConfig
from cloister_simulations.experiment import run_simulation
from cloister_simulations.progress import Reporter
from cloister_simulations.result import Figure, Figures, SimulationResult

RESULT = "result.json"
"""A finished simulation's document in its folder."""


class SweepLine(Frozen):
    """One figure of one arm or baseline at one ε (None: without noise), over the seeds.

    ``values`` are by seed; ``deviation`` is the sample's standard deviation, None for one seed.
    """

    kind: str
    name: str
    epsilon: float | None
    metric: str
    values: dict[int, float]
    mean: float
    deviation: Figure


class SweepResult(Frozen):
    """All figures of a sweep; the documents of its simulations lie in their folders."""

    schema_version: int = 1
    command: str
    config: dict[str, Any]
    seeds: tuple[int, ...]
    lines: tuple[SweepLine, ...]


@dataclass(frozen=True)
class Variant:
    """One simulation of a sweep; ``epsilon`` None has the arms without noise, and baselines."""

    config: SimulationConfig
    epsilon: float | None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        part = "without-noise" if self.epsilon is None else f"epsilon-{self.epsilon:g}"
        return f"{part}-seed-{self.config.seed}"


def run_sweep(
    variants: Iterable[Variant], directory: Path, reporter: Reporter, command: str
) -> list[tuple[Variant, SimulationResult]]:
    """Run what is not finished yet under ``directory``; the results in the order of variants."""
    return [(one, _run(one, directory / one.folder, reporter, command)) for one in variants]


def variants(
    config: SimulationConfig,
    epsilons: Sequence[float],
    seeds: Sequence[int],
    learning_rates: Sequence[float] = (),
) -> list[Variant]:
    """The simulations of a sweep, seed by seed.

    ``learning_rates``, if any, are the coordinator's in private training, one for each ε. Raises
    ``ConfigError`` if they are not as many, or if nothing is left to run.
    """
    if learning_rates and len(learning_rates) != len(epsilons):
        raise ConfigError(
            f"{len(epsilons)} epsilons need as many learning rates, found {len(learning_rates)}"
        )
    rates: Sequence[float | None] = learning_rates or [None] * len(epsilons)
    settings = list(zip(epsilons, rates, strict=True))
    found = [variant for seed in seeds for variant in _of_seed(config, seed, settings)]
    if not found:
        raise ConfigError("a sweep needs at least one seed, and an epsilon for the private arms")
    return found


def summarize(
    config: SimulationConfig, done: Sequence[tuple[Variant, SimulationResult]], command: str
) -> SweepResult:
    """Mean and deviation of every figure over the seeds."""
    values: dict[tuple[str, str, float | None, str], dict[int, float]] = {}
    for variant, result in done:
        for kind, name, figures in _figures(result):
            for metric, value in figures.all.items():
                if value is not None:
                    key = (kind, name, variant.epsilon, metric)
                    values.setdefault(key, {})[variant.config.seed] = value
    return SweepResult(
        command=command,
        config=config.model_dump(mode="json"),
        seeds=tuple(dict.fromkeys(variant.config.seed for variant, _ in done)),
        lines=tuple(_line(*key, by_seed) for key, by_seed in values.items()),
    )


def _of_seed(
    config: SimulationConfig, seed: int, settings: Sequence[tuple[float, float | None]]
) -> Iterator[Variant]:
    """First what has no noise, then the private arms at each ε."""
    document = {**config.model_dump(mode="json"), "seed": seed}
    free = [arm for arm in config.arms if arm not in PRIVATE_ARMS]
    private = [arm for arm in config.arms if arm in PRIVATE_ARMS]
    if free:
        yield Variant(SimulationConfig.model_validate({**document, "arms": free}), None)
    for epsilon, rate in settings if private else ():
        changed = _at(document, epsilon, rate)
        changed |= {"arms": private, "baselines": config.baselines and not free}
        yield Variant(SimulationConfig.model_validate(changed), epsilon)


def _at(document: dict[str, Any], epsilon: float, rate: float | None) -> dict[str, Any]:
    """The document with another ε and, if given, another rate of private training."""
    privacy = document["privacy"]
    privacy = {**privacy, "budget": {**privacy["budget"], "epsilon": epsilon}}
    if rate is None:
        return {**document, "privacy": privacy}
    models = []
    for model in document["models"]:
        server = {**model["private"]["server"], "learning_rate": rate}
        models.append({**model, "private": {**model["private"], "server": server}})
    return {**document, "privacy": privacy, "models": models}


def _run(variant: Variant, directory: Path, reporter: Reporter, command: str) -> SimulationResult:
    """The kept result of the same settings, or a new one."""
    kept = directory / RESULT
    if kept.exists():
        result = SimulationResult.model_validate_json(kept.read_bytes())
        if result.config_digest == digest(variant.config.model_dump(mode="json")):
            return result
    result = run_simulation(variant.config, directory, reporter, command)
    write_durably(kept, result.model_dump_json(indent=1).encode())
    return result


def _figures(result: SimulationResult) -> Iterator[tuple[str, str, Figures]]:
    """(model kind, arm or baseline, figures) of a simulation."""
    for arm in result.arms:
        for kind, figures in arm.final.items():
            yield kind, arm.name, figures
    for kind, baselines in result.baselines.items():
        for name, figures in baselines.items():
            yield kind, name, figures


def _line(
    kind: str, name: str, epsilon: float | None, metric: str, values: dict[int, float]
) -> SweepLine:
    numbers = list(values.values())
    return SweepLine(
        kind=kind,
        name=name,
        epsilon=epsilon,
        metric=metric,
        values=values,
        mean=fmean(numbers),
        deviation=stdev(numbers) if len(numbers) > 1 else None,
    )
