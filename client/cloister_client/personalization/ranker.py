"""The recommender in numpy: a learner's vector from their last items, and scores from it.

The formulas and the weights are those of ``RecommenderSpec`` (after FISM: Kabbur, Ning, Karypis,
KDD 2013).
"""

import numpy as np
from numpy.typing import NDArray

from cloister_shared.model_specs import Weights, check_weights
from cloister_shared.model_specs.recommender import RecommenderSpec

Floats = NDArray[np.float32]


class Ranker:
    """The recommender with fixed ``weights``."""

    def __init__(self, spec: RecommenderSpec, weights: Weights) -> None:
        check_weights(weights, spec)
        self._source = weights["source"]
        self._target = np.ascontiguousarray(weights["target"][:, :-1])
        self._bias = np.ascontiguousarray(weights["target"][:, -1])
        self._recency = (spec.recency ** np.arange(spec.lags)).astype(np.float32)

    def scores(self, items: NDArray[np.int32]) -> Floats:
        """(catalogue,) scores after ``items``, the learner's item positions in order."""
        learner = self._lagged(items).sum(axis=0)
        scores: Floats = self._target @ learner + self._bias
        return scores

    def influences(self, items: NDArray[np.int32], candidate: int) -> Floats:
        """What each of the last items adds to the score of ``candidate``, the latest first."""
        influences: Floats = self._lagged(items) @ self._target[candidate]
        return influences

    def _lagged(self, items: NDArray[np.int32]) -> Floats:
        """(lags, factors) weighted sources of the last items, the latest first."""
        latest = items[::-1][: len(self._recency)]
        return self._recency[: len(latest), None] * self._source[latest]
