"""The plan's description of one model's noisy, clipped, sampled sums."""

import math

from pydantic import Field, field_validator, model_validator

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.events import MAX_NOISE, MIN_NOISE, NonPrivate, SampledGaussian
from cloister_shared.privacy.release import NoiseKind

MIN_CLIP = 1e-6
"""Far below it, float32 would round the noise away."""

MAX_DISCRETE_NOISE = 1e4
"""Beyond it, whole numbers of so fine a grid would not all be doubles."""


class Mechanism(Frozen):
    """Poisson-sample learners at ``sampling_rate``, clip each to ``clip_norm``, add noise.

    The noise's standard deviation is ``noise_multiplier · clip_norm`` on the *sum*, which is then
    divided by the public ``sampling_rate · declared size``. ``noise_multiplier`` 0 means no noise
    and no clip: non-private. ``noise`` is rounded from doubles, or drawn exactly on the integers
    (ADR 0021); both are charged alike.
    """

    noise_multiplier: float = Field(ge=0, le=MAX_NOISE)
    clip_norm: float = Field(ge=MIN_CLIP)
    sampling_rate: float = Field(gt=0, le=1)
    noise: NoiseKind = "gaussian"

    @field_validator("noise_multiplier")
    @classmethod
    def _check_noise(cls, noise_multiplier: float) -> float:
        if 0 < noise_multiplier < MIN_NOISE:
            raise ValueError(f"noise multiplier must be 0 or at least {MIN_NOISE:g}")
        return noise_multiplier

    @model_validator(mode="after")
    def _check_discrete(self) -> "Mechanism":
        if self.noise == "discrete_gaussian" and self.noise_multiplier > MAX_DISCRETE_NOISE:
            raise ValueError(
                f"a discrete Gaussian's noise multiplier must be at most {MAX_DISCRETE_NOISE:g}"
            )
        return self

    @property
    def is_private(self) -> bool:
        """Whether noise is added at all."""
        return self.noise_multiplier > 0

    def event(self, steps: int) -> SampledGaussian | NonPrivate:
        """What ``steps`` steps of this mechanism are to be charged as."""
        if not self.is_private:
            return NonPrivate()
        return SampledGaussian(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=steps,
        )

    def step_norm_bound(self, dimension: int, declared_size: int) -> float:
        """L2 norm that one step's mean gradient stays under, but with probability < 1e-12.

        The clipped sum has norm at most clip · (sampled learners), and no more than all of N̂ are
        sampled. A standard Gaussian in d dimensions has norm at most √d + √(2·log 1e12): Laurent
        and Massart 2000, lemma 1. Infinite where the plan does not clip.
        """
        if not self.is_private:
            return math.inf
        noise = self.noise_multiplier * (math.sqrt(dimension) + math.sqrt(2 * math.log(1e12)))
        return self.clip_norm * (declared_size + noise) / (self.sampling_rate * declared_size)
