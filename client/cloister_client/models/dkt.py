"""Deep knowledge tracing in torch: the behaviour of :class:`DktSpec`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from cloister_client.histories import History
from cloister_client.models.base import Batch, Scores
from cloister_client.models.classification import classification_metrics
from cloister_client.models.recurrence import states_before
from cloister_client.models.windows import pad, window_starts
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource

_ANSWERS_AT_ONCE = 100_000
"""Padded answers scored together: bounds the memory of an evaluation."""


@dataclass(frozen=True, slots=True)
class DktInputs:
    """R rows of T answers with at most S skills, the longest row first.

    ``lengths`` (R,) int64: answers without padding. ``items`` (R, T) int64 and ``skills``
    (R, T, S) int64, padded with 0; ``shares`` (R, T, S) float32: 1/(number of skills), 0 where
    padded; ``correct`` (R, T) float32; ``weights`` (R, T) float32: 1/(predictions of the learner),
    0 where padded.
    """

    lengths: torch.Tensor
    items: torch.Tensor
    skills: torch.Tensor
    shares: torch.Tensor
    correct: torch.Tensor
    weights: torch.Tensor


class DktModule(nn.Module):
    """Leaves named as the spec's weights; each is called once per forward."""

    def __init__(self, spec: DktSpec, weights: Weights) -> None:
        super().__init__()
        self.skills, self.hidden = spec.skills, spec.hidden
        tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        self.input = nn.Embedding.from_pretrained(tensors["input"], freeze=False)
        self.recurrent = nn.Linear(spec.hidden, 4 * spec.hidden, bias=False)
        self.recurrent.weight = nn.Parameter(tensors["recurrent"])
        self.output = nn.Embedding.from_pretrained(tensors["output"], freeze=False)
        self.item_bias: nn.Embedding | None = None
        if spec.items:
            self.item_bias = nn.Embedding.from_pretrained(tensors["item_bias"], freeze=False)

    def forward(self, inputs: DktInputs) -> torch.Tensor:
        """(R, T) logits of a right answer, each from the answers before it only."""
        answered = inputs.skills + self.skills * inputs.correct.long().unsqueeze(-1)
        shares = inputs.shares.unsqueeze(-1)
        gates = (self.input(answered) * shares).sum(dim=2)
        states = states_before(gates, self.recurrent, inputs.lengths)
        asked = (self.output(inputs.skills) * shares).sum(dim=2)
        logits = (asked[..., : self.hidden] * states).sum(dim=-1) + asked[..., self.hidden]
        if self.item_bias is None:
            return logits
        return logits + self.item_bias(inputs.items).squeeze(-1)


class DktKind:
    """Every answer is predicted from those before it; the first from the empty state."""

    def build(self, spec: DktSpec, weights: Weights) -> nn.Module:
        """The torch module holding ``weights``."""
        return DktModule(spec, weights)

    def batch(
        self,
        spec: DktSpec,
        histories: Sequence[History],
        local: LocalTraining,
        noise: NoiseSource,
    ) -> Batch[DktInputs]:
        """One row a window; the weights make the rows of a learner sum to their mean loss."""
        rows: list[tuple[History, int, int]] = []
        for learner, history in enumerate(histories):
            starts = window_starts(len(history), local, noise)
            parts = [history[start : start + local.window] for start in starts]
            answers = sum(map(len, parts))
            rows += [(part, learner, answers) for part in parts]
        rows.sort(key=lambda row: -len(row[0]))
        inputs = _inputs(
            [part for part, _, _ in rows],
            [np.full(len(part), 1 / answers, dtype=np.float32) for part, _, answers in rows],
        )
        owners = torch.tensor([learner for _, learner, _ in rows], dtype=torch.int64)
        return Batch(inputs, owners, len(histories))

    def loss(self, module: nn.Module, batch: Batch[DktInputs]) -> torch.Tensor:
        """(rows,) weighted cross-entropy in nats."""
        losses = functional.binary_cross_entropy_with_logits(
            module(batch.inputs), batch.inputs.correct, reduction="none"
        )
        return (losses * batch.inputs.weights).sum(dim=1)

    def score(self, spec: DktSpec, weights: Weights, histories: Sequence[History]) -> list[Scores]:
        """Labels and probabilities of all but each history's first answer, per history.

        The state is carried over the whole history, as in serving.
        """
        module = self.build(spec, weights)
        scores = [Scores(np.zeros(0), np.zeros(0))] * len(histories)
        for chunk in _chunks(histories):
            part = [histories[position] for position in chunk]
            ones = [np.ones(len(history), dtype=np.float32) for history in part]
            with torch.no_grad():
                probabilities = torch.sigmoid(module(_inputs(part, ones))).double().numpy()
            for row, position in enumerate(chunk):
                history = histories[position]
                scores[position] = Scores(
                    targets=history.correct[1:].astype(np.float64),
                    outputs=probabilities[row, 1 : len(history)],
                )
        return scores

    def metrics(self, scores: Scores) -> dict[str, float]:
        """AUC, accuracy and log-loss."""
        return classification_metrics(scores)


def _inputs(rows: Sequence[History], weights: Sequence[NDArray[np.float32]]) -> DktInputs:
    skills = pad([row.skills for row in rows], -1)
    known = (skills >= 0).float()
    return DktInputs(
        lengths=torch.tensor([len(row) for row in rows], dtype=torch.int64),
        items=pad([row.items for row in rows], 0).long(),
        skills=skills.clamp(min=0).long(),
        shares=known / known.sum(dim=-1, keepdim=True).clamp(min=1),
        correct=pad([row.correct for row in rows], 0.0),
        weights=pad(list(weights), 0.0),
    )


def _chunks(histories: Sequence[History]) -> Iterator[list[int]]:
    """Positions of non-empty histories of similar length, as many as fit into one forward.

    The longest comes first.
    """
    order = sorted((i for i, h in enumerate(histories) if len(h)), key=lambda i: len(histories[i]))
    chunk: list[int] = []
    for position in order:
        if chunk and (len(chunk) + 1) * len(histories[position]) > _ANSWERS_AT_ONCE:
            yield chunk[::-1]
            chunk = []
        chunk.append(position)
    if chunk:
        yield chunk[::-1]
