"""Opacus's optimizer with noise from a :class:`NoiseSource` and sums that are already clipped."""

from collections.abc import Sequence
from typing import Any

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping

from cloister_shared.privacy.noise import NoiseSource, gaussian


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
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        self.noise = noise

    def start_sum(self) -> None:
        """Begin a step with a sum of zero, so that an empty batch is noised like any other."""
        for parameter in self.params:
            parameter.summed_grad = torch.zeros_like(parameter)

    def add_clipped(self, sums: Sequence[torch.Tensor]) -> None:
        """Add sums of clipped gradients, one for each parameter in the optimizer's order."""
        for parameter, clipped in zip(self.params, sums, strict=True):
            parameter.grad = clipped
        self.accumulate()

    def add_noise(self) -> None:
        """Add ``noise_multiplier · max_grad_norm`` times a standard Gaussian."""
        count = sum(parameter.numel() for parameter in self.params)
        scale = self.noise_multiplier * self.max_grad_norm
        drawn = torch.from_numpy(scale * gaussian(self.noise, count))
        offset = 0
        for parameter in self.params:
            part = drawn[offset : offset + parameter.numel()].view_as(parameter)
            parameter.grad = (parameter.summed_grad.double() + part).to(parameter.dtype)
            offset += parameter.numel()

    def step(self, closure: Any = None) -> Any:
        """Noise the sum, divide it by the public batch size and take one step."""
        if closure is not None:
            raise ValueError("a closure would recompute gradients outside the clipped sum")
        self.add_noise()
        self.scale_grad()
        return self.original_optimizer.step()
