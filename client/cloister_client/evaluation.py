"""``evaluate_round``: what a node releases of its evaluation learners."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import HistorySource
from cloister_client.models import model_kind
from cloister_shared.model_specs import ModelSpec, Weights, check_weights
from cloister_shared.plan import MetricPlan
from cloister_shared.privacy.histograms import cells, learner_histogram
from cloister_shared.privacy.ledger_format import ModelEvent
from cloister_shared.privacy.noise import NoiseSource
from cloister_shared.privacy.release import noised

_AT_ONCE = 1000
"""Learners scored together: bounds the memory of an evaluation."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A noisy histogram (cells,) and the event that it must have been charged as."""

    histogram: NDArray[np.float32]
    event: ModelEvent


def evaluate_round(
    weights: Weights,
    source: HistorySource,
    metrics: MetricPlan,
    spec: ModelSpec,
    noise: NoiseSource,
    *,
    cohorts: Collection[str] | None = None,
) -> EvaluationResult:
    """Score every eligible evaluation learner and add noise to the sum of their histograms.

    Noise alone where nobody is eligible. Raises ``MessageError`` if the weights do not fit the
    spec.
    """
    check_weights(weights, spec)
    kind = model_kind(spec)
    total = np.zeros(cells(spec.outcome, metrics.bins))
    learners = source.learners("evaluate", cohorts)
    for start in range(0, len(learners), _AT_ONCE):
        histories = source.load(learners[start : start + _AT_ONCE], "evaluate")
        for scores in kind.score(spec, weights, histories):
            total += learner_histogram(spec.outcome, scores.targets, scores.outputs, metrics.bins)
    noisy = noised(total, 1.0, metrics.noise_multiplier, "gaussian", noise)
    return EvaluationResult(noisy.astype(np.float32), metrics.event(spec.kind))
