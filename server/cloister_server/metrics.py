"""What the nodes' noisy histograms say together: figures on the federation-wide sum."""

import math
from collections.abc import Mapping

import numpy as np

from cloister_shared.plan import MetricPlan, Plan
from cloister_shared.privacy.histograms import Floats, PrivateFigures, private_figures


def federated_figures(
    histograms: Mapping[str, Mapping[str, Floats]],
    plan: Plan,
    metrics: MetricPlan,
    round_number: int,
) -> dict[str, PrivateFigures]:
    """Figures by model kind of histograms by node and kind; none if the quorum is not reached.

    Summed in the order of the nodes' names, so that the order of arrival changes nothing. The noise
    of K nodes is √K times that of one.
    """
    names = sorted(histograms)
    if len(names) < plan.quorum:
        return {}
    deviation = metrics.noise_multiplier * math.sqrt(len(names))
    return {
        model.spec.kind: private_figures(
            np.sum([histograms[name][model.spec.kind] for name in names], axis=0),
            model.spec.outcome,
            deviation,
        )
        for model in plan.measured(round_number)
    }
