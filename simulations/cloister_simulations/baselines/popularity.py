"""The same list for everybody: items by the number of train learners who met them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.recommending import learner_item_matrix, rank_histories


def rank_by_popularity(
    train: Sequence[History], evaluation: Sequence[History], curriculum: Curriculum
) -> list[Scores]:
    """Ranks of the next new items when items are ordered by :func:`learners_by_item`."""
    counts = learners_by_item(train, len(curriculum.items))
    return rank_histories(
        evaluation, lambda _, positions: np.broadcast_to(counts, (len(positions), len(counts)))
    )


def learners_by_item(train: Sequence[History], items: int) -> NDArray[np.float64]:
    """(items,) number of distinct learners who met each item."""
    return np.asarray(learner_item_matrix(train, items).sum(axis=0))
