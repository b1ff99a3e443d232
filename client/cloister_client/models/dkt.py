"""Deep knowledge tracing in torch: the behaviour of :class:`DktSpec`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
from cloister_client.practice_record import answered
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import PRACTICE_FEATURES, DktSpec
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
    0 where padded; ``practice`` (R, T, 15) float32, or (R, 0, 0) where the spec does not use it.
    """

    lengths: torch.Tensor
    items: torch.Tensor
    skills: torch.Tensor
    shares: torch.Tensor
    correct: torch.Tensor
    weights: torch.Tensor
    practice: torch.Tensor


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
        self.practice: nn.Linear | None = None
        if spec.practice:
            self.practice = nn.Linear(PRACTICE_FEATURES, 1, bias=False)
            self.practice.weight = nn.Parameter(tensors["practice"])

    def forward(self, inputs: DktInputs) -> torch.Tensor:
        """(R, T) logits of a right answer, each from the answers before it only."""
        answered = inputs.skills + self.skills * inputs.correct.long().unsqueeze(-1)
        shares = inputs.shares.unsqueeze(-1)
        gates = (self.input(answered) * shares).sum(dim=2)
        states = states_before(gates, self.recurrent, inputs.lengths)
        asked = (self.output(inputs.skills) * shares).sum(dim=2)
        logits = (asked[..., : self.hidden] * states).sum(dim=-1) + asked[..., self.hidden]
        if self.item_bias is not None:
            logits = logits + self.item_bias(inputs.items).squeeze(-1)
        if self.practice is not None:
            logits = logits + self.practice(inputs.practice).squeeze(-1)
        return logits


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
        rows: list[_Row] = []
        for learner, history in enumerate(histories):
            whole = _whole(spec, history, learner)
            starts = window_starts(len(history), local, noise)
            parts = [whole.part(slice(start, start + local.window)) for start in starts]
            answers = sum(len(part.history) for part in parts)
            rows += [replace(part, weight=1 / answers) for part in parts]
        rows.sort(key=lambda row: -len(row.history))
        owners = torch.tensor([row.learner for row in rows], dtype=torch.int64)
        return Batch(_inputs(rows), owners, len(histories))

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
            rows = [_whole(spec, histories[position]) for position in chunk]
            with torch.no_grad():
                probabilities = torch.sigmoid(module(_inputs(rows))).double().numpy()
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


@dataclass(frozen=True, slots=True)
class _Row:
    """A part of a learner's history with the practice before it, and each answer's weight."""

    history: History
    practice: NDArray[np.float32]
    learner: int
    weight: float = 1.0

    def part(self, span: slice) -> "_Row":
        return replace(self, history=self.history[span], practice=self.practice[span])


def _whole(spec: DktSpec, history: History, learner: int = 0) -> _Row:
    """The whole history as a row; its practice is counted from its first answer on."""
    practice = answered(history) if spec.practice else np.zeros((0, 0), dtype=np.float32)
    return _Row(history, practice, learner)


def _inputs(rows: Sequence[_Row]) -> DktInputs:
    histories = [row.history for row in rows]
    skills = pad([history.skills for history in histories], -1)
    known = (skills >= 0).float()
    return DktInputs(
        lengths=torch.tensor([len(history) for history in histories], dtype=torch.int64),
        items=pad([history.items for history in histories], 0).long(),
        skills=skills.clamp(min=0).long(),
        shares=known / known.sum(dim=-1, keepdim=True).clamp(min=1),
        correct=pad([history.correct for history in histories], 0.0),
        weights=pad([np.full(len(row.history), row.weight, np.float32) for row in rows], 0.0),
        practice=pad([row.practice for row in rows], 0.0),
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
