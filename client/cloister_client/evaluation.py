"""``evaluate_round``: what a node releases of its evaluation learners."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import HistorySource
from cloister_client.models import model_kind
from cloister_shared.model_specs import ModelSpec, Weights, check_weights
from cloister_shared.plan import MetricPlan
from cloister_shared.privacy.histograms import learner_histogram
from cloister_shared.privacy.ledger_format import ModelEvent
from cloister_shared.privacy.noise import NoiseSource
from cloister_shared.privacy.release import noised

_AT_ONCE = 1000
"""Learners scored together: bounds the memory of an evaluation."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Noisy histograms in one array, and the event that they must have been charged as."""

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

    A learner is counted once, into their group's. Noise alone where nobody is eligible. Raises
    ``MessageError`` if the weights do not fit the spec.
    """
    check_weights(weights, spec)
    kind = model_kind(spec)
    total = np.zeros(metrics.shape(spec.outcome))
    learners = source.learners("evaluate", cohorts)
    for start in range(0, len(learners), _AT_ONCE):
        some = learners[start : start + _AT_ONCE]
        rows = [metrics.row(group) for group in _groups(source, some, metrics)]
        for row, one in zip(
            rows, kind.score(spec, weights, source.load(some, "evaluate")), strict=True
        ):
            total[row] += learner_histogram(spec.outcome, one.targets, one.outputs, metrics.bins)
    noisy = noised(total.ravel(), 1.0, metrics.noise_multiplier, "gaussian", noise)
    return EvaluationResult(noisy.astype(np.float32), metrics.event(spec.kind))


def _groups(
    source: HistorySource, learners: Sequence[str], metrics: MetricPlan
) -> Sequence[str | None]:
    """The group of each; where the plan has none, nobody is asked for theirs."""
    return source.groups(learners, "evaluate") if metrics.groups else [None] * len(learners)
