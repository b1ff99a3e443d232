"""The protocol by which every recommender is ranked, ours and the baselines.

At each position whose item the learner has not met before, all items that they have not met are
ranked by score (full ranking, no sampled negatives). Ties count half and NaN counts as the lowest
score, so that neither is rewarded. HR@k and NDCG@k as in He et al., WWW 2017, section 4.1.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.models.base import Scores


def queries(history: History) -> NDArray[np.int64]:
    """Positions ≥ 1 at which the learner meets an item for the first time."""
    _, first = np.unique(history.items, return_index=True)
    return np.sort(first[first > 0])


def rank_queries(history: History, scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """1-based ranks of the true items; ``scores`` (queries, items), one row per query."""
    positions = queries(history)
    seen = np.zeros(scores.shape[1], dtype=bool)
    ranks = np.empty(len(positions))
    for row, (start, position) in enumerate(_spans(positions)):
        seen[history.items[start:position]] = True
        line = np.where(np.isnan(scores[row]), -np.inf, scores[row])
        own = line[history.items[position]]
        better = np.count_nonzero((line > own) & ~seen)
        ties = np.count_nonzero((line == own) & ~seen) - 1
        ranks[row] = 1 + better + ties / 2
    return ranks


def ranking_scores(ranks: NDArray[np.float64]) -> Scores:
    """Ranks in the form that metrics take."""
    return Scores(targets=np.ones(len(ranks)), outputs=ranks)


def ranking_metrics(scores: Scores, k: int = 10) -> dict[str, float]:
    """HR@k, NDCG@k and the mean reciprocal rank over all queries."""
    ranks = scores.outputs
    if not len(ranks):
        return {f"hr@{k}": float("nan"), f"ndcg@{k}": float("nan"), "mrr": float("nan")}
    hit = ranks <= k
    return {
        f"hr@{k}": float(hit.mean()),
        f"ndcg@{k}": float((hit / np.log2(ranks + 1)).mean()),
        "mrr": float((1 / ranks).mean()),
    }


def _spans(positions: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(previous query, query): the items in between have been met by then."""
    previous = 0
    for position in positions:
        yield previous, int(position)
        previous = int(position)
