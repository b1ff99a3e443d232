"""The recommender: what comes next, from the items a learner worked on last.

Shared item representations are learned federally; the learner's vector is computed from their own
history where it lies and never leaves it. A factored item-to-item model in the manner of FISM
(Kabbur, Ning, Karypis, KDD 2013) with recency weights instead of a flat mean:

    u(t)    = Σ_{lag=0..L-1} recency^lag · source[item(t - lag)]
    score_i = u(t) · target[i] + bias[i]
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs.base import ModelSpec, Weights
from cloister_shared.privacy.histograms import Outcome

MAX_PER_QUERY = 100
"""Items looked up for one query: more could exhaust memory, and only where there are learners."""


class RecommenderSpec(ModelSpec):
    """``items`` items in ``factors`` dimensions.

    Weights: ``source`` (items, factors), ``target`` (items, factors + 1), the item's bias last.
    ``prior`` > 0 starts from the public catalogue: items that stand or are taught close to one
    another begin alike, so that before any training the next item of the catalogue is likely.
    """

    kind: Literal["recommender"] = "recommender"
    outcome: ClassVar[Outcome] = "rank"
    items: int = Field(ge=1)
    factors: int = Field(default=32, ge=2)
    recency: float = Field(default=0.5, ge=0, lt=1)
    lags: int = Field(default=8, ge=1, le=MAX_PER_QUERY)
    negatives: int = Field(default=20, ge=1, le=MAX_PER_QUERY)
    prior: float = Field(default=0.0, ge=0)

    @classmethod
    def for_curriculum(
        cls, curriculum: Curriculum, options: Mapping[str, Any]
    ) -> "RecommenderSpec":
        """One row per item of the curriculum."""
        return cls.model_validate({**options, "items": len(curriculum.items)})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the two weights."""
        return {"source": (self.items, self.factors), "target": (self.items, self.factors + 1)}

    def initial_weights(self, curriculum: Curriculum, seed: int) -> Weights:
        """Normal with deviation .1/√factors, plus ``prior`` times the catalogue's features."""
        self.check_curriculum(curriculum)
        random = np.random.default_rng(seed)
        scale = 0.1 / np.sqrt(self.factors)
        weights = {
            name: (scale * random.standard_normal(shape)).astype(np.float32)
            for name, shape in self.shapes().items()
        }
        weights["target"][:, -1] = 0
        if self.prior:
            source, target = _catalogue_features(self.items, self.factors, random)
            weights["source"] += np.float32(self.prior) * source
            weights["target"][:, :-1] += np.float32(self.prior) * target
        return weights

    def check_curriculum(self, curriculum: Curriculum) -> None:
        """One row per item of the curriculum."""
        if self.items != len(curriculum.items):
            raise ConfigError(
                f"the recommender spec has {self.items} items, the curriculum "
                f"{curriculum.name!r} has {len(curriculum.items)}"
            )


def _catalogue_features(
    items: int, factors: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random Fourier features of the catalogue position (Rahimi and Recht 2007, algorithm 1).

    source[i] · target[j] approximates exp(-(j - i - 1)² / (2·width²)): largest for j = i + 1.
    """
    width = 2.0
    frequencies = random.standard_normal(factors // 2) / width
    phases = np.outer(np.arange(items + 1), frequencies)
    features = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.sqrt(factors // 2)
    if factors % 2:
        features = np.concatenate([features, np.zeros((items + 1, 1))], axis=1)
    return features[1:].astype(np.float32), features[:-1].astype(np.float32)
