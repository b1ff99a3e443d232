"""Canaries: made-up learners of whom each moves a weight of their own, and no other's.

All weights are zero, so that a gradient has no other part; losses are scaled up until every
gradient is clipped: a canary has exactly as much say as a learner may have.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import MAX_PER_QUERY, RecommenderSpec
from cloister_shared.registry import Registry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Canaries:
    """``history`` of the canary of a number; ``scores`` (n,) tells from a delta who was there.

    The higher the likelier. ``spec`` is of the kind that is audited, with room for all canaries.
    """

    spec: ModelSpec
    history: Callable[[int], History]
    scores: Callable[[Weights], Floats]

    def weights(self) -> Weights:
        """Where the round starts."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.spec.shapes().items()}


CANARIES: Registry[Callable[[int], Canaries]] = Registry("cloister.canaries")
"""By model kind: makes so many canaries."""


def of_dkt(count: int) -> Canaries:
    """Each answers once, to a skill of their own: what moves is the bias of its read-out."""
    return Canaries(
        DktSpec(skills=count, hidden=1),
        lambda number: _history([number], number),
        lambda delta: delta["output"][:, -1].astype(np.float64),
    )


def of_recommender(count: int) -> Canaries:
    """Each meets two items of their own: what moves is the bias of the second.

    The many items drawn against it share what it pays for them, so each gets little of it.
    """
    return Canaries(
        RecommenderSpec(items=2 * count, factors=2, lags=1, negatives=MAX_PER_QUERY),
        lambda number: _history([2 * number, 2 * number + 1], 0),
        lambda delta: delta["target"][1::2, -1].astype(np.float64),
    )


def _history(items: list[int], skill: int) -> History:
    answers = len(items)
    return History(
        items=np.array(items, np.int32),
        skills=np.full((answers, 1), skill, np.int32),
        correct=np.ones(answers, np.float32),
        when=np.arange(answers, dtype=np.float64),
    )
