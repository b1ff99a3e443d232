"""By how much a learner's gradient is scaled down."""

import torch

TINY = 1e-6
"""Added to norms, as in Opacus, so that nothing is divided by zero."""


def coefficients_for(squared_norms: torch.Tensor, clip_norm: float) -> torch.Tensor:
    """(learners,) min(1, clip_norm / norm); 0 for a norm that is not finite."""
    coefficients = (clip_norm / (squared_norms.sqrt() + TINY)).clamp(max=1)
    return coefficients.masked_fill(~squared_norms.isfinite(), 0)


def squared_norms(gradients: torch.Tensor) -> torch.Tensor:
    """(n,) of each row, added up in float64: rounding may not make a long one's norm too small."""
    norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
    return norms.square_().to(gradients.dtype)
