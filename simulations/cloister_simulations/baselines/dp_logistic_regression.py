"""Logistic regression on counted practice under learner-level differential privacy.

The logit is a weight for each of the 12 features of ``practice_record`` and the 6 of ``recency``, a
common intercept, and one for each skill. Trained by noisy gradient descent (Song, Chaudhuri,
Sarwate, "Stochastic Gradient Descent with Differentially Private Updates", 2013) on all learners at
every step: each one's gradient is clipped in L2 and the sum gets Gaussian noise, so that a step is
charged as a Gaussian mechanism. Without sampling, many steps cost no more than few.

The few weights learn fast because both their start and their scale are public: they come from
synthetic answers that know nothing of any learner, as in ``pretraining``. There the features
are made uncorrelated and of variance 1, so that one rate suits them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.counted_answers import (
    CountedAnswers,
    counted_features,
    logits,
    shares_of_skills,
)
from cloister_simulations.baselines.majority import predict_majority
from cloister_simulations.baselines.private import Allowance, Floats
from cloister_simulations.baselines.tracing import all_correct, by_history
from cloister_simulations.pretraining import synthetic_history

# One set for all data, chosen on validation folds: fold 4 of ASSISTments 2015 and of 2017.
STEPS, MOMENTUM = 60, 0.5
CLIP_NORM = 0.07
FASTEST = 60.0
"""Learning rate of the first step where noise allows it."""
NOISE_A_STEP = 0.005
"""How far noise may move a feature's weight in one step: the more noise, the lower the rate."""
SKILL_RATE = 10.0
"""Times the learning rate for the skills' intercepts: each sees few of the answers."""
SYNTHETIC_LEARNERS, SYNTHETIC_ANSWERS, SYNTHETIC_SEED = 300, 100, 1
RIDGE = 0.02
"""Least variance that the public scale counts on, of features that are about 1."""


def predict_dp_logistic_regression(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    allowance: Allowance,
    *,
    item_counts: bool = True,
) -> list[Scores]:
    """Probabilities of all answers but each learner's first.

    Without ``item_counts`` it knows as much of an answer as DKT does: its skills.
    """
    start = _public_start(curriculum, item_counts)
    answers = CountedAnswers.of(train, start.features(train), curriculum)
    weights = _train(answers, start.weights, allowance)
    return _predict(evaluation, curriculum, start, weights)


def predict_logistic_regression(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    *,
    item_counts: bool = True,
) -> list[Scores]:
    """The same model at its maximum likelihood, unprotected: what privacy takes from it.

    Train answers that are all alike give the majority's constant.
    """
    if len(np.unique(all_correct(train))) < 2:
        return predict_majority(train, evaluation, curriculum)
    start = _public_start(curriculum, item_counts)
    answers = CountedAnswers.of(train, start.features(train), curriculum)
    columns = sparse.csr_array(sparse.hstack([sparse.csr_array(answers.features), answers.skills]))
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(columns.astype(np.float64), answers.correct)
    return _predict(evaluation, curriculum, start, model.coef_[0])


@dataclass(frozen=True)
class _Start:
    """``scale`` (19, 19) for features and the constant 1, and ``weights`` (19,) in that scale."""

    item_counts: bool
    scale: NDArray[np.float32]
    weights: Floats

    def features(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """(answers of all histories, 19) features in the public scale."""
        return np.asarray(counted_features(histories, self.item_counts) @ self.scale)


@lru_cache(maxsize=4)
def _public_start(curriculum: Curriculum, item_counts: bool) -> _Start:
    """Scale and first weights from synthetic answers to the curriculum's items."""
    random = np.random.default_rng(SYNTHETIC_SEED)
    histories = [
        synthetic_history(curriculum, SYNTHETIC_ANSWERS, random) for _ in range(SYNTHETIC_LEARNERS)
    ]
    features = counted_features(histories, item_counts).astype(np.float64)
    moments = features.T @ features / len(features) + RIDGE * np.eye(features.shape[1])
    variances, directions = np.linalg.eigh(moments)
    scale = directions / np.sqrt(variances) @ directions.T
    model = LogisticRegression(C=10.0, fit_intercept=False, max_iter=1000)
    model.fit(features @ scale, all_correct(histories))
    return _Start(item_counts, scale.astype(np.float32), model.coef_[0])


def _train(answers: CountedAnswers, start: Floats, allowance: Allowance) -> Floats:
    """(19 + skills,) weights after ``STEPS`` steps, whose rate falls to 0 as a square root."""
    skills = answers.skills.shape[1]
    weights = np.concatenate([start, np.zeros(skills)])
    speed = np.concatenate([np.ones(len(start)), np.full(skills, SKILL_RATE)]) / allowance.learners
    deviation = allowance.noise_multiplier(STEPS) * CLIP_NORM
    fastest = min(FASTEST, NOISE_A_STEP * allowance.learners / deviation)
    velocity = np.zeros_like(weights)
    for step in range(STEPS):
        gradient = allowance.noised(answers.clipped_sum(weights, CLIP_NORM), deviation)
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * speed * gradient
        weights = weights + fastest * np.sqrt(1 - step / STEPS) * velocity
    return weights


def _predict(
    histories: Sequence[History], curriculum: Curriculum, start: _Start, weights: Floats
) -> list[Scores]:
    skills = shares_of_skills(histories, len(curriculum.skills))
    chances = expit(logits(start.features(histories), skills, weights))
    return by_history(histories, chances.astype(np.float64))
