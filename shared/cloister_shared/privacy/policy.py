"""What an institution allows; it ships switched on and no server setting weakens it."""

from typing import Literal

from pydantic import Field

from cloister_shared.frozen import Frozen
from cloister_shared.privacy.budget import Budget


class Policy(Frozen):
    """The institution's limits; a plan beyond any of them is refused, never adapted.

    Parameters and windows bound what a plan can make a node hold in memory. Only
    ``max_membership_advantage`` is not about plans: a released model beyond it is kept, but not
    served. None tests none.
    """

    budget: Budget = Field(default_factory=lambda: Budget(epsilon=4.0, delta=1e-6))
    require_secure_aggregation: bool = False
    min_noise_multiplier: float = Field(default=0.5, ge=0)
    min_metric_noise_multiplier: float = Field(default=1.0, ge=0)
    max_sampling_rate: float = Field(default=0.5, gt=0, le=1)
    max_clip_norm: float = Field(default=10.0, gt=0)
    max_local_steps: int = Field(default=100, ge=1)
    max_parameters: int = Field(default=5_000_000, ge=1)
    min_window: int = Field(default=10, ge=2)
    max_window: int = Field(default=2000, ge=2)
    min_declared_size: int = Field(default=50, ge=1)
    max_membership_advantage: float | None = Field(default=0.25, gt=0, le=1)
    consent: Literal["opt_out", "opt_in"] = "opt_out"
    allow_without_guarantee: bool = False
    """Non-private plans and keyed noise: for simulations on data that may be used so."""
