"""Opacus's two ways to a private step of its ``DPLSTM``, each as its documentation has it.

Both draw their noise from torch's generator, which is quicker than the operating system's.
"""

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.layers import DPLSTM
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

from cloister_simulations.benchmarks.dp_step.one_hot import OneHotDkt, losses
from cloister_simulations.benchmarks.dp_step.workload import (
    CLIP,
    NOISE,
    RATE,
    SKILLS,
    Shape,
    histories,
    pad,
)


class Hooks:
    """``grad_sample_mode="hooks"``: every learner's gradient is held, then clipped."""

    def __init__(self, shape: Shape) -> None:
        self.data = pad(histories(shape))
        self.module = GradSampleModule(_module(shape), loss_reduction="sum")
        self.optimizer = DPOptimizer(
            torch.optim.SGD(self.module.parameters(), lr=RATE),
            noise_multiplier=NOISE,
            max_grad_norm=CLIP,
            expected_batch_size=shape.learners,
        )

    def step(self) -> None:
        """One DP-SGD step."""
        self.optimizer.zero_grad()
        torch.autograd.backward(losses(self.module, self.data).sum())
        self.optimizer.step()


class Ghost:
    """``grad_sample_mode="ghost"``: norms first, then a second backward of the weighted loss."""

    def __init__(self, shape: Shape) -> None:
        self.data = pad(histories(shape))
        self.module = GradSampleModuleFastGradientClipping(
            _module(shape), loss_reduction="sum", max_grad_norm=CLIP
        )
        self.optimizer = DPOptimizerFastGradientClipping(
            torch.optim.SGD(self.module.parameters(), lr=RATE),
            noise_multiplier=NOISE,
            max_grad_norm=CLIP,
            expected_batch_size=shape.learners,
        )

    def step(self) -> None:
        """One DP-SGD step; the tensor is what Opacus's ``DPLossFastGradientClipping`` returns."""
        self.optimizer.zero_grad()
        by_learner = losses(self.module, self.data)
        DPTensorFastGradientClipping(self.module, self.optimizer, by_learner, "sum").backward()
        self.optimizer.step()


def _module(shape: Shape) -> OneHotDkt:
    return OneHotDkt(DPLSTM(2 * SKILLS, shape.hidden, batch_first=True), shape.hidden)
