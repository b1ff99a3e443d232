"""The recommender in torch: the behaviour of :class:`RecommenderSpec`.

Training predicts, as evaluation does, each item that a learner meets for the first time: a softmax
over it and uniformly drawn items of the public catalogue (sampled softmax, Jean et al. 2015,
section 3), never items of other learners.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cloister_client.histories import History, lengths_of
from cloister_client.models.base import Batch, Scores, check_within
from cloister_client.models.leaves import LookUp
from cloister_client.models.leaves import Scores as ItemScores
from cloister_client.models.ranking import (
    queries,
    rank_queries,
    ranking_metrics,
    ranking_scores,
)
from cloister_client.models.windows import windows_of
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource, choice


@dataclass(frozen=True, slots=True)
class RecommenderInputs:
    """R rows of P queries, the longest row first, queries first in memory.

    ``recent`` (R, P, lags) int64 and ``recency`` (R, P, lags) float32: the items before, latest
    first, and their weights (0 where there is none); ``candidates`` (R, P, 1 + negatives) int64,
    the true item first; ``weights`` (R, P) float32: 1/(queries of the learner), 0 where padded.
    """

    recent: torch.Tensor
    recency: torch.Tensor
    candidates: torch.Tensor
    weights: torch.Tensor


class RecommenderModule(nn.Module):
    """Two leaves, named as the spec's weights; each is called once per forward."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.source = LookUp(torch.from_numpy(weights["source"].copy()))
        self.target = ItemScores(torch.from_numpy(weights["target"].copy()))

    def forward(self, inputs: RecommenderInputs) -> torch.Tensor:
        """(R, P, 1 + negatives) scores of the candidates."""
        learner = self.source(inputs.recent, inputs.recency)
        asked = (inputs.weights > 0).unsqueeze(2).expand_as(inputs.candidates)
        scores: torch.Tensor = self.target(learner, inputs.candidates, asked)
        return scores


class RecommenderKind:
    """Next-item recommendation from a learner vector that is computed where the learner is."""

    def build(self, spec: RecommenderSpec, weights: Weights) -> nn.Module:
        """The torch module holding ``weights``."""
        return RecommenderModule(weights)

    def batch(
        self,
        spec: RecommenderSpec,
        histories: Sequence[History],
        local: LocalTraining,
        noise: NoiseSource,
    ) -> Batch[RecommenderInputs]:
        """Rows of at most ``window`` queries; learners without a query have no row."""
        whole = History.concatenate(histories)
        check_within("item", whole.items, spec.items)
        lengths = lengths_of(histories)
        learners = np.repeat(np.arange(len(histories)), lengths)
        asked = _first_meetings(whole.items, learners)
        counts = np.bincount(learners[asked], minlength=len(histories))
        windows = windows_of(counts, local, noise)
        places = asked - (np.cumsum(lengths) - lengths)[learners[asked]]
        recent, recency = _lagged(spec, whole.items, asked, places)
        true = windows.rows(whole.items[asked]).long()
        drawn = choice(noise, spec.items, true.numel() * spec.negatives)
        negatives = torch.from_numpy(drawn).view(*true.t().shape, spec.negatives).transpose(0, 1)
        weights = np.repeat(windows.weights, windows.lengths).astype(np.float32)
        inputs = RecommenderInputs(
            recent=windows.rows(recent).long(),
            recency=windows.rows(recency),
            candidates=torch.cat([true.unsqueeze(2), negatives], dim=2),
            weights=windows.spread(weights),
        )
        return Batch(inputs, torch.from_numpy(windows.learners), len(histories))

    def loss(self, module: nn.Module, batch: Batch[RecommenderInputs]) -> torch.Tensor:
        """(rows,) weighted softmax cross-entropy of the true items, in nats."""
        losses = -torch.log_softmax(module(batch.inputs), dim=-1)[..., 0]
        return (losses * batch.inputs.weights).sum(dim=1)

    def score(
        self, spec: RecommenderSpec, weights: Weights, histories: Sequence[History]
    ) -> list[Scores]:
        """Ranks of the true items over the full catalogue, per history."""
        return [ranking_scores(_ranks(spec, weights, history)) for history in histories]

    def metrics(self, scores: Scores) -> dict[str, float]:
        """HR@10, NDCG@10 and mean reciprocal rank."""
        return ranking_metrics(scores)


def _ranks(spec: RecommenderSpec, weights: Weights, history: History) -> NDArray[np.float64]:
    positions = queries(history)
    recent, recency = _lagged(spec, history.items, positions, positions)
    learner = np.einsum("pl,plf->pf", recency, weights["source"][recent])
    target, bias = weights["target"][:, :-1], weights["target"][:, -1]
    return rank_queries(history, learner @ target.T + bias)


def _first_meetings(items: NDArray[np.int32], learners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions at which a learner meets an item for the first time, but for their first item."""
    _, met = np.unique(learners * (int(items.max(initial=0)) + 1) + items, return_index=True)
    met = np.sort(met)
    return met[np.diff(learners[met], prepend=-1) == 0]


def _lagged(
    spec: RecommenderSpec,
    items: NDArray[np.int32],
    positions: NDArray[np.int64],
    places: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(queries, lags) items before each query, latest first, and their recency weights.

    ``positions`` (queries,) are the queries' in ``items``, ``places`` in their own history.
    """
    lags = np.arange(spec.lags)
    recency = np.float32(spec.recency) ** lags
    weights = np.where(places[:, None] > lags, recency, 0).astype(np.float32)
    return items[(positions[:, None] - 1 - lags).clip(min=0)], weights
