"""Matrix factorization of met and not met, the learner's vector computed from what they have met.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, section 4:
alternating least squares, by the library ``implicit``. A learner of the evaluation role is folded
in at every query: one more step of the least squares, over the items met before it.
"""

from collections.abc import Sequence

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.recommending import (
    learner_item_matrix,
    met_before,
    rank_histories,
)

SEED = 1


def rank_by_matrix_factorization(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    *,
    factors: int = 128,
    confidence: float = 40.0,
    regularization: float = 5.0,
    iterations: int = 15,
) -> list[Scores]:
    """Ranks of the next new items by the product of learner and item vectors.

    ``confidence`` is the weight of an item met, that of one not met being 1. Without train
    learners all items score alike.
    """
    items = len(curriculum.items)
    model = AlternatingLeastSquares(
        factors=factors,
        alpha=confidence,
        regularization=regularization,
        iterations=iterations,
        num_threads=1,
        random_state=SEED,
    )
    # The library splits its work itself; a second set of threads below it would only slow it down.
    with threadpool_limits(limits=1, user_api="blas"):
        if train:
            model.fit(sparse.csr_matrix(learner_item_matrix(train, items)), show_progress=False)
        else:
            model.item_factors = np.zeros((items, factors), dtype=np.float32)

        def scorer(history: History, positions: NDArray[np.int64]) -> NDArray[np.float64]:
            met = sparse.csr_matrix(met_before(history, positions, items))
            learners = model.recalculate_user(np.arange(len(positions)), met)
            scores = np.asarray(learners @ model.item_factors.T, dtype=np.float64)
            # The last digits of float32 products depend on how many are formed: a tie is a tie.
            return scores.round(5)

        return rank_histories(evaluation, scorer)
