"""Opacus's optimizer with noise from a :class:`NoiseSource` and sums that are already clipped."""

from collections.abc import Sequence
from typing import Any

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping

from cloister_shared.privacy.noise import NoiseSource
from cloister_shared.privacy.release import NoiseKind, noised


class LearnerOptimizer(DPOptimizerFastGradientClipping):
    """Adds noise to sums over learners of clipped gradients, and never uses torch's generators.

    ``expected_batch_size`` is the public sampling rate · declared size, not a count.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        noise: NoiseSource,
        noise_kind: NoiseKind,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        self.noise = noise
        self.noise_kind = noise_kind

    def start_sum(self) -> None:
        """Begin a step with a sum of zero, so that an empty batch is noised like any other.

        In float64: what many batches add up to is not rounded again with each of them.
        """
        for parameter in self.params:
            parameter.summed_grad = torch.zeros_like(parameter, dtype=torch.float64)

    def add_clipped(self, sums: Sequence[torch.Tensor]) -> None:
        """Add sums of clipped gradients, one for each parameter in the optimizer's order."""
        for parameter, clipped in zip(self.params, sums, strict=True):
            parameter.grad = clipped
        self.accumulate()

    def add_noise(self) -> None:
        """Make a release of the sum of all parameters: noise of the multiplier times the clip."""
        total = torch.cat([parameter.summed_grad.flatten() for parameter in self.params])
        noisy = noised(
            total.detach().numpy(),
            self.max_grad_norm,
            self.noise_multiplier,
            self.noise_kind,
            self.noise,
        )
        sizes = [parameter.numel() for parameter in self.params]
        for parameter, part in zip(self.params, torch.from_numpy(noisy).split(sizes), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def step(self, closure: Any = None) -> Any:
        """Noise the sum, divide it by the public batch size and take one step."""
        if closure is not None:
            raise ValueError("a closure would recompute gradients outside the clipped sum")
        self.add_noise()
        self.scale_grad()
        return self.original_optimizer.step()
