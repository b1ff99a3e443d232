"""Item-based nearest neighbours: items met by the same learners as what the learner met last.

Sarwar, Karypis, Konstan, Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms",
WWW 2001, sections 3.1.1 (cosine) and 3.2.1 (weighted sum), on met/not met instead of ratings. The
task being the *next* item, the sum runs over the learner's last items, later ones weighing more.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.recommending import (
    learner_item_matrix,
    rank_histories,
    recency_weights,
)


def rank_by_item_knn(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    *,
    neighbours: int = 20,
    recent: int = 5,
    recency: float = 0.5,
) -> list[Scores]:
    """Ranks of the next new items by their likeness to the ``recent`` items met last.

    An item counts only among the ``neighbours`` items most like the one met; the item met ``lag``
    answers before the last one weighs ``recency`` to the power of ``lag``.
    """
    items = len(curriculum.items)
    similarity = item_similarity(train, items, neighbours)

    def scorer(history: History, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        weights = recency_weights(history, positions, items, recent, recency)
        return np.asarray((weights @ similarity).toarray())

    return rank_histories(evaluation, scorer)


def item_similarity(train: Sequence[History], items: int, neighbours: int) -> sparse.csr_array:
    """(items, items) cosines, in each row those of the nearest ``neighbours`` other items only."""
    nearest = min(neighbours, items - 1)
    if not nearest or not train:
        return sparse.csr_array((items, items))
    learners_of_item = learner_item_matrix(train, items).T.tocsr()
    search = NearestNeighbors(n_neighbors=nearest, metric="cosine").fit(learners_of_item)
    distances, columns = search.kneighbors()
    rows = np.repeat(np.arange(items), nearest)
    return sparse.csr_array(
        ((1 - distances).ravel(), (rows, columns.ravel())), shape=(items, items)
    )
