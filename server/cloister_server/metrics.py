"""What the nodes' noisy histograms say together: figures on the federation-wide sum."""

import math
from collections.abc import Mapping

import numpy as np

from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy.figures import (
    Breakdown,
    PrivateFigures,
    breakdown,
    private_figures,
)
from cloister_shared.privacy.histograms import Floats

Histograms = Mapping[str, Mapping[str, Floats]]
"""By node and model kind."""


def federated_figures(
    histograms: Histograms, plan: Plan, metrics: MetricPlan, round_number: int
) -> dict[str, PrivateFigures]:
    """Figures of all learners by model kind; none if the quorum is not reached."""
    figures = {}
    for model, total, deviation in _sums(histograms, plan, metrics, round_number):
        whole = deviation * math.sqrt(len(total))
        figures[model.spec.kind] = private_figures(total.sum(axis=0), model.spec.outcome, whole)
    return figures


def federated_breakdowns(
    histograms: Histograms, plan: Plan, metrics: MetricPlan, round_number: int
) -> dict[str, Breakdown]:
    """Figures by group and bin, by model kind; none if the quorum is not reached."""
    return {
        model.spec.kind: breakdown(total, model.spec.outcome, deviation, metrics.groups)
        for model, total, deviation in _sums(histograms, plan, metrics, round_number)
    }


def _sums(
    histograms: Histograms, plan: Plan, metrics: MetricPlan, round_number: int
) -> list[tuple[ModelPlan, Floats, float]]:
    """Every measured model with the sum of its (groups, cells), and the noise in each cell.

    Summed in the order of the nodes' names, so that the order of arrival changes nothing. The noise
    of K nodes is √K times that of one.
    """
    names = sorted(histograms)
    if len(names) < plan.quorum:
        return []
    deviation = metrics.noise_multiplier * math.sqrt(len(names))
    return [
        (
            model,
            np.sum([histograms[name][model.spec.kind] for name in names], axis=0).reshape(
                metrics.shape(model.spec.outcome)
            ),
            deviation,
        )
        for model in plan.measured(round_number)
    ]
