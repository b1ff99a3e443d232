"""From what somebody wants trained to a plan's models and metrics: noise that a budget pays for."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import BudgetExceededError, ConfigError
from cloister_shared.frozen import Frozen, describe
from cloister_shared.model_specs import SPECS, ModelSpec
from cloister_shared.plan import (
    Groups,
    LocalTraining,
    MetricPlan,
    ModelPlan,
    ServerOptimizer,
)
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.events import MAX_NOISE, MIN_NOISE
from cloister_shared.privacy.mechanism import Mechanism


class Training(Frozen):
    """How one model is trained.

    ``noise_multiplier`` None is calibrated so that the rounds spend the model's share of the
    budget; where there is no noise it is ignored, and so is the clip.
    """

    rounds: int = Field(ge=1)
    sampling_rate: float = Field(gt=0, le=1)
    noise_multiplier: float | None = Field(default=None, ge=MIN_NOISE, le=MAX_NOISE)
    clip_norm: float = Field(default=1.0, gt=0)
    local: LocalTraining = LocalTraining()
    server: ServerOptimizer = ServerOptimizer()


class PrivateMetrics(Frozen):
    """Figures that nodes with noise release of their evaluation learners, from noisy histograms.

    After every ``every_rounds``-th round and each model's last. Their noise is calibrated so that
    all of them together spend ``budget_share`` of an evaluation learner's budget, which is apart
    from that of those who train.
    """

    every_rounds: int = Field(ge=1)
    budget_share: float = Field(default=1.0, gt=0, le=1)
    bins: int = Field(default=20, ge=2, le=1000)
    groups: Groups = ()
    """Groups of learners whose figures stand apart, beside one for all others."""


def check_kind(kind: str) -> str:
    """The kind itself; ``ValueError`` if no model is called so."""
    if kind not in SPECS.names():
        raise ValueError(f"no model kind is called {kind!r}; known: {', '.join(SPECS)}")
    return kind


def make_spec(kind: str, options: Mapping[str, Any], curriculum: Curriculum) -> ModelSpec:
    """The spec in the curriculum's size; ``ConfigError`` if the kind has no such option."""
    try:
        return SPECS.get(kind).for_curriculum(curriculum, options)
    except ValidationError as error:
        raise ConfigError(f"spec of the model {kind}: {describe(error)}") from error


class Allowance(Frozen):
    """What a run may spend of one learner's budget.

    A crash between a charge and its reply is never refunded: calibration leaves ``spare_rounds``
    rounds for such, without which one crash would leave a node unable to pay for the last round.
    """

    budget: Budget
    spare_rounds: int = Field(default=1, ge=0)

    def model_plan(self, spec: ModelSpec, training: Training, share: float) -> ModelPlan:
        """The model's training with noise by which it spends ``share`` of the budget.

        Raises ``ConfigError`` where no noise would be enough.
        """
        return planned(spec, training, self._mechanism(training, share))

    def require(self, kind: str, training: Training, share: float) -> None:
        """Raise ``BudgetExceededError`` unless the model's rounds fit ``share`` of the budget."""
        event = self._mechanism(training, share).event(training.local.steps)
        allowed = math.floor(self.budget.limit * share)
        try:
            self.budget.require([[event]] * training.rounds, allowed)
        except BudgetExceededError as error:
            sentence = f"model {kind}, {share:g} of the budget: {error}"
            raise BudgetExceededError(sentence, error.requested, error.remaining) from error

    def metric_plan(self, wanted: PrivateMetrics, rounds: Iterable[int]) -> MetricPlan:
        """Metrics that all together spend their share; ``rounds`` are those of each model."""
        releases = sum(math.ceil(one / wanted.every_rounds) + self.spare_rounds for one in rounds)
        return MetricPlan(
            every_rounds=wanted.every_rounds,
            noise_multiplier=self.budget.calibrate(1.0, 1, releases, wanted.budget_share),
            bins=wanted.bins,
            groups=wanted.groups,
        )

    def _mechanism(self, training: Training, share: float) -> Mechanism:
        noise = training.noise_multiplier
        if noise is None:
            rounds = training.rounds + self.spare_rounds
            noise = self.budget.calibrate(
                training.sampling_rate, training.local.steps, rounds, share
            )
        return mechanism_of(training, noise)


def mechanism_of(training: Training, noise_multiplier: float) -> Mechanism:
    """The training's mechanism with this noise; 0 is none."""
    return Mechanism(
        noise_multiplier=noise_multiplier,
        clip_norm=training.clip_norm,
        sampling_rate=training.sampling_rate,
    )


def planned(spec: ModelSpec, training: Training, mechanism: Mechanism) -> ModelPlan:
    """The model's training with this mechanism."""
    return ModelPlan(
        spec=spec,
        rounds=training.rounds,
        mechanism=mechanism,
        local=training.local,
        server=training.server,
    )
