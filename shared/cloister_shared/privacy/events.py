"""What a mechanism did: the unit that accounting prices and the ledger records.

``Event`` is the union of all kinds, told apart by ``type``.
"""

from typing import Annotated, Literal

from pydantic import Field

from cloister_shared.frozen import Frozen

MIN_NOISE, MAX_NOISE = 1e-12, 1e12
"""Noise multipliers whose RDP is a number: beyond, the formulas over- or underflow."""


class SampledGaussian(Frozen):
    """``steps`` Gaussian mechanisms on Poisson samples of learners.

    ``noise_multiplier`` is the noise's standard deviation over the L2 sensitivity of one learner's
    whole contribution; neighbours differ by adding or removing one learner.
    """

    type: Literal["sampled_gaussian"] = "sampled_gaussian"
    noise_multiplier: float = Field(ge=MIN_NOISE, le=MAX_NOISE)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)


class NonPrivate(Frozen):
    """Something without a guarantee was released; costs infinity."""

    type: Literal["non_private"] = "non_private"


Event = Annotated[SampledGaussian | NonPrivate, Field(discriminator="type")]
