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

from cloister_client.histories import History
from cloister_client.models.base import Batch, Scores
from cloister_client.models.ranking import (
    queries,
    rank_queries,
    ranking_metrics,
    ranking_scores,
)
from cloister_client.models.windows import pad, window_starts
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource, choice


@dataclass(frozen=True, slots=True)
class RecommenderInputs:
    """R rows of P queries.

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

    def __init__(self, spec: RecommenderSpec, weights: Weights) -> None:
        super().__init__()
        self.factors = spec.factors
        self.source = nn.Embedding.from_pretrained(_tensor(weights["source"]), freeze=False)
        self.target = nn.Embedding.from_pretrained(_tensor(weights["target"]), freeze=False)

    def forward(self, inputs: RecommenderInputs) -> torch.Tensor:
        """(R, P, 1 + negatives) scores of the candidates."""
        learner = (self.source(inputs.recent) * inputs.recency.unsqueeze(-1)).sum(dim=2)
        target = self.target(inputs.candidates)
        return (target[..., : self.factors] * learner.unsqueeze(2)).sum(-1) + target[..., -1]


class RecommenderKind:
    """Next-item recommendation from a learner vector that is computed where the learner is."""

    def build(self, spec: RecommenderSpec, weights: Weights) -> nn.Module:
        """The torch module holding ``weights``."""
        return RecommenderModule(spec, weights)

    def batch(
        self,
        spec: RecommenderSpec,
        histories: Sequence[History],
        local: LocalTraining,
        noise: NoiseSource,
    ) -> Batch[RecommenderInputs]:
        """Rows of at most ``window`` queries; learners without a query have no row."""
        rows: list[tuple[History, NDArray[np.int64], int]] = []
        owners: list[int] = []
        for learner, history in enumerate(histories):
            positions = queries(history)
            starts = window_starts(len(positions), local, noise)
            parts = [positions[start : start + local.window] for start in starts]
            asked = sum(map(len, parts))
            rows += [(history, part, asked) for part in parts]
            owners += [learner] * len(parts)
        return Batch(_inputs(spec, rows, noise), torch.tensor(owners).long(), len(histories))

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
    recent, recency = _lagged(spec, history, positions)
    learner = np.einsum("pl,plf->pf", recency, weights["source"][recent])
    target, bias = weights["target"][:, :-1], weights["target"][:, -1]
    return rank_queries(history, learner @ target.T + bias)


def _inputs(
    spec: RecommenderSpec,
    rows: Sequence[tuple[History, NDArray[np.int64], int]],
    noise: NoiseSource,
) -> RecommenderInputs:
    lagged = [_lagged(spec, history, positions) for history, positions, _ in rows]
    true = pad([history.items[positions] for history, positions, _ in rows], 0).long()
    negatives = choice(noise, spec.items, true.numel() * spec.negatives)
    drawn = torch.from_numpy(negatives).view(*true.shape, spec.negatives)
    return RecommenderInputs(
        recent=pad([recent for recent, _ in lagged], 0).long(),
        recency=pad([recency for _, recency in lagged], 0.0),
        candidates=torch.cat([true.unsqueeze(-1), drawn], dim=-1),
        weights=pad([np.full(len(part), 1 / n, dtype=np.float32) for _, part, n in rows], 0.0),
    )


def _lagged(
    spec: RecommenderSpec, history: History, positions: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(queries, lags) items before each query, latest first, and their recency weights."""
    lags = np.arange(spec.lags)
    before = positions[:, None] - 1 - lags
    recency = np.where(before >= 0, np.float32(spec.recency) ** lags, 0).astype(np.float32)
    return history.items[before.clip(min=0)], recency


def _tensor(array: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(array.copy())
