"""What the recommending baselines share: one matrix over learners, one loop over queries."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_client.models.ranking import queries, rank_queries, ranking_scores

Scorer = Callable[[History, NDArray[np.int64]], NDArray[np.float64]]
"""(history, q positions) to (q, items) scores; row i uses ``history.items[:positions[i]]`` only."""


def rank_histories(histories: Sequence[History], scorer: Scorer) -> list[Scores]:
    """Ranks at every query of every history, under the protocol of ``models.ranking``.

    One history at a time: memory is 8 bytes · items · the queries of the longest history.
    """
    return [
        ranking_scores(rank_queries(history, scorer(history, queries(history))))
        for history in histories
    ]


def learner_item_matrix(histories: Sequence[History], items: int) -> sparse.csr_array:
    """(learners, items) with a one where the learner has met the item."""
    met = [np.unique(history.items) for history in histories]
    rows = np.repeat(np.arange(len(met)), [len(one) for one in met])
    columns = np.concatenate([*met, np.zeros(0, dtype=np.int32)])
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(met), items))


def recency_weights(
    history: History, positions: NDArray[np.int64], items: int, recent: int, recency: float
) -> sparse.csr_array:
    """(positions, items): recency^lag for the item met ``lag`` answers before the last one.

    Lags run from 0 to ``recent`` - 1; an item that was met at several of them gets the sum.
    """
    lags = np.arange(recent)
    earlier = positions[:, None] - 1 - lags
    row, lag = np.nonzero(earlier >= 0)
    columns = history.items[earlier[row, lag]]
    return sparse.csr_array((recency ** lag.astype(float), (row, columns)), (len(positions), items))


def met_before(history: History, positions: NDArray[np.int64], items: int) -> sparse.csr_array:
    """(positions, items) with a one where the learner has met the item before the position."""
    _, first = np.unique(history.items, return_index=True)
    row, item = np.nonzero(first < positions[:, None])
    columns = history.items[first[item]]
    return sparse.csr_array((np.ones(len(row)), (row, columns)), (len(positions), items))
