"""Deep knowledge tracing in torch: the behaviour of :class:`DktSpec`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cloister_client.histories import History, lengths_of
from cloister_client.models.base import Batch, Scores, check_within
from cloister_client.models.classification import classification_metrics
from cloister_client.models.leaves import LookUp
from cloister_client.models.leaves import Scores as SkillScores
from cloister_client.models.recurrence import InputGates, StateGates, states_before
from cloister_client.models.windows import Windows, all_of, windows_of
from cloister_client.practice_features import shared_features, skill_features
from cloister_client.practice_record import Features, Ints, answered_by_skill
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import PRACTICE_FEATURES, SKILL_FEATURES, DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource

_ANSWERS_AT_ONCE = 100_000
"""Padded answers scored together: bounds the memory of an evaluation."""


@dataclass(frozen=True, slots=True)
class DktInputs:
    """R rows of T answers with at most S skills, the longest row first, answers first in memory.

    ``lengths`` (R,) int64: answers without padding. ``items`` (R, T) int64 and ``skills``
    (R, T, S) int64, padded with 0; ``shares`` (R, T, S) float32: 1/(number of skills), 0 where
    padded; ``correct`` (R, T) float32; ``weights`` (R, T) float32: 1/(predictions of the learner)
    or 1/(the plan's ``loss_divisor``), 0 where padded; ``practice`` (R, T, 13) and
    ``skill_practice`` (R, T, 3, S) float32, the skills' shares in them; or (R, T, 0) and
    (R, T, 0, S) where the spec does not use them.
    """

    lengths: torch.Tensor
    items: torch.Tensor
    skills: torch.Tensor
    shares: torch.Tensor
    correct: torch.Tensor
    weights: torch.Tensor
    practice: torch.Tensor
    skill_practice: torch.Tensor


class DktModule(nn.Module):
    """Leaves named as the spec's weights; each is called once per forward."""

    def __init__(self, spec: DktSpec, weights: Weights) -> None:
        super().__init__()
        self.skills = spec.skills
        tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
        self.input = InputGates(tensors["input"])
        self.recurrent = StateGates(tensors["recurrent"])
        self.output = SkillScores(tensors["output"])
        self.item_bias = LookUp(tensors["item_bias"]) if spec.items else None
        self.practice: nn.Linear | None = None
        if spec.practice:
            self.practice = nn.Linear(PRACTICE_FEATURES, 1, bias=False)
            self.practice.weight = nn.Parameter(tensors["practice"])
            self.skill_practice = LookUp(tensors["skill_practice"])

    def forward(self, inputs: DktInputs) -> torch.Tensor:
        """(R, T) logits of a right answer, each from the answers before it only."""
        answers = inputs.skills + self.skills * inputs.correct.long().unsqueeze(-1)
        states = states_before(self.input, self.recurrent, answers, inputs.shares, inputs.lengths)
        scores = self.output(states, inputs.skills, inputs.shares > 0)
        logits: torch.Tensor = (scores * inputs.shares).sum(dim=2)
        if self.item_bias is not None:
            true = (inputs.weights > 0).to(inputs.weights.dtype)
            logits = logits + self.item_bias(inputs.items.unsqueeze(2), true.unsqueeze(2))[..., 0]
        if self.practice is not None:
            logits = logits + self.practice(inputs.practice)[..., 0]
            rows = skill_practice_rows(inputs, self.skills)
            logits = logits + self.skill_practice(rows, inputs.skill_practice.flatten(2))[..., 0]
        return logits


def skill_practice_rows(inputs: DktInputs, skills: int) -> torch.Tensor:
    """(R, T, 3·S) which row of ``skill_practice`` belongs to each of the inputs' skill features."""
    return torch.cat([inputs.skills + skills * one for one in range(SKILL_FEATURES)], dim=2)


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
        windows = windows_of(lengths_of(histories), local, noise)
        inputs = _inputs(spec, histories, windows)
        return Batch(inputs, torch.from_numpy(windows.learners), len(histories))

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
            windows = all_of(lengths_of(part))
            with torch.no_grad():
                logits = module(_inputs(spec, part, windows))
            probabilities = torch.sigmoid(logits).double().numpy()
            for row, own in enumerate(windows.learners):
                history = part[own]
                scores[chunk[own]] = Scores(
                    targets=history.correct[1:].astype(np.float64),
                    outputs=probabilities[row, 1 : len(history)],
                )
        return scores

    def metrics(self, scores: Scores) -> dict[str, float]:
        """AUC, accuracy and log-loss."""
        return classification_metrics(scores)


def answers_of(spec: DktSpec, histories: Sequence[History]) -> tuple[History, Features, Features]:
    """All answers, one learner after the other, and their features; see :func:`practice_of`.

    Raises ``DataError`` for a skill or an item that the spec does not know.
    """
    whole = History.concatenate(histories)
    check_within("skill", whole.skills, spec.skills)
    if spec.items:
        check_within("item", whole.items, spec.items)
    learners = np.repeat(np.arange(len(histories)), lengths_of(histories))
    return whole, *practice_of(spec, whole, learners)


def practice_of(spec: DktSpec, whole: History, learners: Ints) -> tuple[Features, Features]:
    """Scaled features of n answers, whose they are said by ``learners`` (n,).

    (n, 13) those of the answers, and (n, 3, S) their skills', each times the skill's share; or
    (n, 0) and (n, 0, S) where the spec does not use them.
    """
    if not spec.practice:
        shape = (len(whole), 0)
        return np.zeros(shape, np.float32), np.zeros((*shape, whole.skills.shape[1]), np.float32)
    counted, by_skill = answered_by_skill(whole, learners)
    shared = shared_features(counted) * np.float32(spec.practice_scale)
    own = skill_features(by_skill) * np.float32(spec.skill_scale) * shares_of(whole)[..., None]
    return shared, np.moveaxis(own, 2, 1)


def shares_of(whole: History) -> Features:
    """(n, S) 1 / (number of its skills) at each skill of an answer, 0 where padded."""
    known = whole.skills >= 0
    shares: Features = (known / np.maximum(known.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return shares


def _inputs(spec: DktSpec, histories: Sequence[History], windows: Windows) -> DktInputs:
    """The windows' answers as rows; practice is counted from a history's first answer on."""
    whole, practice, skill_practice = answers_of(spec, histories)
    weights = np.repeat(windows.weights, windows.lengths)
    return DktInputs(
        lengths=torch.from_numpy(windows.lengths),
        items=windows.rows(whole.items).long(),
        skills=windows.rows(whole.skills.clip(min=0)).long(),
        shares=windows.rows(shares_of(whole)),
        correct=windows.rows(whole.correct),
        weights=windows.spread(weights.astype(np.float32)),
        practice=windows.rows(practice),
        skill_practice=windows.rows(skill_practice),
    )


def _chunks(histories: Sequence[History]) -> Iterator[list[int]]:
    """Positions of non-empty histories of similar length, as many as fit into one forward."""
    order = sorted((i for i, h in enumerate(histories) if len(h)), key=lambda i: len(histories[i]))
    chunk: list[int] = []
    for position in order:
        if chunk and (len(chunk) + 1) * len(histories[position]) > _ANSWERS_AT_ONCE:
            yield chunk
            chunk = []
        chunk.append(position)
    if chunk:
        yield chunk
