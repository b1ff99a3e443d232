"""Exact figures on evaluation learners: simulation only, no node would release them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cloister_client.histories import History
from cloister_client.models import Scores, model_kind
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.figures import OTHER
from cloister_simulations.baselines.figures import figures_by, figures_by_institution
from cloister_simulations.result import Figures

_BINS = 20


@dataclass(frozen=True)
class Evaluator:
    """Evaluation histories, the institution of each, and which predictions of each count.

    ``groups`` has the group of each, where learners are in any.
    """

    histories: Sequence[History]
    institutions: Sequence[str]
    predictions: Literal["all", "last"] = "all"
    groups: Sequence[str | None] | None = None

    def shared(self, spec: ModelSpec, weights: Weights) -> Figures:
        """Figures of one model for all institutions."""
        return self.figures(spec, model_kind(spec).score(spec, weights, self.histories))

    def own(self, spec: ModelSpec, weights: Mapping[str, Weights]) -> Figures:
        """Figures where every institution has a model of its own."""
        scores = [
            model_kind(spec).score(spec, weights[institution], [history])[0]
            for history, institution in zip(self.histories, self.institutions, strict=True)
        ]
        return self.figures(spec, scores)

    def figures(self, spec: ModelSpec, scores: Sequence[Scores]) -> Figures:
        """Figures of any predictor's scores, one for each history."""
        if self.predictions == "last":
            scores = [Scores(one.targets[-1:], one.outputs[-1:]) for one in scores]
        metrics = _metrics(spec)
        figures = figures_by_institution(scores, self.institutions, metrics)
        if self.groups is None:
            return figures
        names = [group or OTHER for group in self.groups]
        return figures.model_copy(update={"by_group": figures_by(scores, names, metrics)})


def _metrics(spec: ModelSpec) -> Callable[[Scores], dict[str, float]]:
    """The kind's own figures; of probabilities how well they are calibrated too."""
    own = model_kind(spec).metrics
    if spec.outcome != "binary":
        return own
    return lambda scores: {**own(scores), **calibration(scores)}


def calibration(scores: Scores) -> dict[str, float]:
    """Mean probability less share of right answers; mean distance of the two within 20 bins.

    The latter as in Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017, equation 3. NaN without predictions, or with such as are no number.
    """
    surplus = scores.outputs - scores.targets
    if not (len(surplus) and np.isfinite(surplus).all()):
        return {"calibration_gap": math.nan, "calibration_error": math.nan}
    bins = np.minimum((scores.outputs * _BINS).astype(np.int64), _BINS - 1)
    by_bin = np.bincount(bins, surplus, minlength=_BINS)
    return {
        "calibration_gap": float(surplus.mean()),
        "calibration_error": float(np.abs(by_bin).sum() / len(surplus)),
    }
