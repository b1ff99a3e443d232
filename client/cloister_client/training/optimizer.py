"""Opacus's optimizer with learners as samples and noise from a :class:`NoiseSource`."""

from typing import Any

import torch
from opacus.optimizers import DPOptimizer

from cloister_shared.privacy.noise import NoiseSource, gaussian


class LearnerOptimizer(DPOptimizer):
    """Clips sums over each learner's rows, and never uses torch's generators.

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

    def sum_rows(self, learner_of_row: torch.Tensor, learners: int) -> None:
        """Turn gradients per row into gradients per learner, before any clipping.

        A learner whose gradient is not finite contributes zero: it is never released raw.
        """
        finite = torch.ones(learners, dtype=torch.bool)
        for parameter in self.params:
            rows = parameter.grad_sample
            summed = rows.new_zeros(learners, *parameter.shape)
            summed.index_add_(0, learner_of_row, rows)
            parameter.grad_sample = summed
            finite &= summed.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            for parameter in self.params:
                parameter.grad_sample[~finite] = 0

    def start_sum(self) -> None:
        """Begin a step with a sum of zero, so that an empty batch is noised like any other."""
        for parameter in self.params:
            parameter.summed_grad = torch.zeros_like(parameter)

    def drop_samples(self) -> None:
        """Forget the gradients of a chunk of learners once they are in the sum."""
        for parameter in self.params:
            parameter.grad_sample = None

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

    @property
    def accumulated_iterations(self) -> int:
        """Always one: a learner's rows lie in one chunk, and chunks add up to one batch."""
        return 1
