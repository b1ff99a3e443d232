"""How often each skill is answered right, released once under learner-level differential privacy.

Each learner's vector of right and wrong answers by skill, divided by max(their answers, 200), is
clipped in L2; the sum of all is released with Gaussian noise (Dwork, Roth, "The Algorithmic
Foundations of Differential Privacy", 2014, appendix A), and every answer is predicted by its
skill's rate.
"""

from collections.abc import Sequence

import numpy as np

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.private import (
    Allowance,
    Floats,
    answer_weights,
    clip_factors,
)
from cloister_simulations.baselines.tracing import (
    all_correct,
    answered_skills,
    by_history,
    learners_of_answers,
    mean_over_skills,
)


def predict_dp_skill_rates(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    allowance: Allowance,
    *,
    clip_norm: float = 0.05,
) -> list[Scores]:
    """Probabilities of all answers but each learner's first: the mean of their skills' rates."""
    deviation = allowance.noise_multiplier(1) * clip_norm
    total = clipped_counts(train, len(curriculum.skills), clip_norm)
    rates = smoothed_rates(allowance.noised(total, deviation), deviation)
    rows, skills = answered_skills(evaluation)
    answers = sum(map(len, evaluation))
    return by_history(evaluation, mean_over_skills(rates[skills], rows, answers, 0.5))


def clipped_counts(histories: Sequence[History], skills: int, clip_norm: float) -> Floats:
    """(2 · skills,) sum over learners of their clipped shares: wrong by skill, then right.

    One learner more or less changes it by at most ``clip_norm`` in L2.
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    rows, skill = answered_skills(histories)
    learner = learners_of_answers(histories)[rows]
    outcome = skill + skills * (all_correct(histories)[rows] > 0)
    cells, cell = np.unique(learner * 2 * skills + outcome, return_inverse=True)
    owner, place = np.divmod(cells, 2 * skills)
    counts = np.bincount(cell, minlength=len(cells)) * answer_weights(lengths)[owner]
    squares = np.bincount(owner, counts**2, len(histories)).astype(np.float64)
    clipped = counts * clip_factors(squares, clip_norm)[owner]
    return np.bincount(place, weights=clipped, minlength=2 * skills).astype(np.float64)


def smoothed_rates(counts: Floats, deviation: float) -> Floats:
    """(skills,) rates from noisy ``counts``, drawn to the common rate as far as noise weighs.

    The common rate enters with the weight of one standard deviation of the noise.
    """
    wrong, right = np.maximum(counts, 0).reshape(2, -1)
    answered = right.sum() + wrong.sum()
    common = right.sum() / answered if answered else 0.5
    weight = max(deviation, 1e-9)
    return np.asarray((right + weight * common) / (right + wrong + weight))
