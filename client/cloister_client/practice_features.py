"""The features that a wide-and-deep tracer makes of counted practice, in fixed public scales.

A learner's gradient is clipped as a whole and every coordinate gets the same noise. So how much the
wide part learns under a budget depends on the scale of its features and on how they are
correlated: on ASSISTments 2015 at ε = 1 making them uncorrelated is worth .004 of AUC (ADR 0020).
The scale must be public, so it comes from synthetic answers that know of no school.
"""

import numpy as np

from cloister_client.practice_record import Features

BASIS: Features = np.array(
    [
        (5.50, -0.03, 0.07, -0.54, -0.02, -0.48, 0.39, -0.42, -0.35, -0.30, -0.27, -0.54, 0.08),
        (-0.03, 4.61, 0.78, 0.24, -0.16, -0.09, -0.05, -0.04, -0.02, -0.03, -0.01, -0.10, -0.91),
        (0.07, 0.78, 2.54, -0.58, -0.13, -0.80, -0.80, 0.11, 0.00, -0.05, 0.03, 0.07, -0.86),
        (-0.54, 0.24, -0.58, 2.77, -1.20, -0.17, 0.13, -0.51, -0.17, -0.07, -0.08, -0.39, -0.22),
        (-0.02, -0.16, -0.13, -1.20, 5.68, -0.04, 0.03, 0.01, -0.16, -0.07, -0.01, -0.06, 0.12),
        (-0.48, -0.09, -0.80, -0.17, -0.04, 5.52, -0.58, -0.54, -0.46, -0.39, -0.08, -0.15, -0.12),
        (0.39, -0.05, -0.80, 0.13, 0.03, -0.58, 5.61, 0.45, 0.34, 0.26, 0.12, 0.19, -0.19),
        (-0.42, -0.04, 0.11, -0.51, 0.01, -0.54, 0.45, 4.60, 0.15, 0.10, -0.05, -0.19, 0.04),
        (-0.35, -0.02, 0.00, -0.17, -0.16, -0.46, 0.34, 0.15, 4.73, -0.02, -0.05, -0.19, 0.04),
        (-0.30, -0.03, -0.05, -0.07, -0.07, -0.39, 0.26, 0.10, -0.02, 5.01, -0.06, -0.17, 0.05),
        (-0.27, -0.01, 0.03, -0.08, -0.01, -0.08, 0.12, -0.05, -0.05, -0.06, 5.43, -1.06, -0.19),
        (-0.54, -0.10, 0.07, -0.39, -0.06, -0.15, 0.19, -0.19, -0.19, -0.17, -1.06, 2.72, -0.16),
        (0.08, -0.91, -0.86, -0.22, 0.12, -0.12, -0.19, 0.04, 0.04, 0.05, -0.19, -0.16, 1.66),
    ],
    dtype=np.float32,
)
"""(13, 13) makes the twelve counted features and a constant uncorrelated, with a second moment of
one: the inverse square root of their moments, over .02 at least, in the synthetic answers of
``pretraining`` to 50 skills with two items each."""

_SHARE, _BLOCK = 0, 2
"""Columns of the counted features: the skill's share of right answers, its block's length."""


def shared_features(counted: Features) -> Features:
    """(n, 13) uncorrelated features, whose weights all skills share, of (n, 12) counted ones."""
    constant = np.ones((len(counted), 1), dtype=np.float32)
    return np.asarray(np.concatenate([counted, constant], axis=1) @ BASIS)


def counted_weights(weights: Features) -> tuple[Features, np.float32]:
    """(12,) weights of counted features, and a constant, that say what (13,) ``weights`` say."""
    own = BASIS @ weights
    return own[:-1], own[-1]


def skill_features(of_skill: Features) -> Features:
    """(..., 3) features, for which each skill has weights of its own, of (..., 5) counted ones.

    A constant; and, with means of about zero and deviations of about one, the skill's share of
    right answers and 1 / (1 + the length of its block). How answers go within a block is the
    skill's own: exercises are often met in the same order.
    """
    first = np.exp(-2 * of_skill[..., _BLOCK])
    columns = [np.ones_like(first), (of_skill[..., _SHARE] - 0.05) / 0.19, (first - 0.42) / 0.34]
    return np.stack(columns, axis=-1).astype(np.float32)
