"""A first-order Markov chain over items: what others met right after the learner's last item.

Courses have an order, so that this is hard to beat for the next item. (Rendle, Freudenthaler,
Schmidt-Thieme, "Factorizing Personalized Markov Chains", WWW 2010, section 4.1, not factorized.)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.popularity import learners_by_item
from cloister_simulations.baselines.recommending import rank_histories


def rank_by_markov(
    train: Sequence[History], evaluation: Sequence[History], curriculum: Curriculum
) -> list[Scores]:
    """Ranks of the next new items by transition counts, equal counts by popularity."""
    transitions = transition_counts(train, len(curriculum.items))
    learners = learners_by_item(train, len(curriculum.items))
    tie_break = learners / (learners.max() + 1)

    def scorer(history: History, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(transitions[history.items[positions - 1]].toarray() + tie_break)

    return rank_histories(evaluation, scorer)


def transition_counts(train: Sequence[History], items: int) -> sparse.csr_array:
    """(items, items): how often an answer to the row's item was followed by one to the column's."""
    nothing = np.zeros(0, dtype=np.int32)
    before = np.concatenate([*(history.items[:-1] for history in train), nothing])
    after = np.concatenate([*(history.items[1:] for history in train), nothing])
    return sparse.csr_array((np.ones(len(before)), (before, after)), shape=(items, items))
