"""A third model kind, the smallest there is: how often each skill is answered right, on a logit.

``docs/model-kinds.md`` explains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cloister_client.histories import History, lengths_of
from cloister_client.models import Batch, Scores
from cloister_client.models.classification import classification_metrics
from cloister_client.models.windows import all_of
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource


class SkillRatesSpec(ModelSpec):
    """One logit a skill: ``logit`` (skills, 1)."""

    kind: Literal["skill_rates"] = "skill_rates"
    skills: int

    @classmethod
    def for_curriculum(cls, curriculum: Curriculum, options: Mapping[str, Any]) -> "SkillRatesSpec":
        return cls(skills=len(curriculum.skills), **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"logit": (self.skills, 1)}

    def initial_weights(self, curriculum: Curriculum, seed: int) -> Weights:
        return {"logit": np.zeros((self.skills, 1), dtype=np.float32)}

    def check_curriculum(self, curriculum: Curriculum) -> None:
        if self.skills != len(curriculum.skills):
            raise ConfigError("skill_rates: the spec has another number of skills")


@dataclass(frozen=True)
class Answers:
    """(learners, answers) first skill of each answer, whether it was right, and its weight."""

    skills: torch.Tensor
    correct: torch.Tensor
    weights: torch.Tensor


class SkillRatesModule(nn.Module):
    """One leaf, named as the spec's weight."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        logit = torch.from_numpy(weights["logit"].copy())
        self.logit = nn.Embedding.from_pretrained(logit, freeze=False)

    def forward(self, answers: Answers) -> torch.Tensor:
        return self.logit(answers.skills).squeeze(-1)


class SkillRatesKind:
    """A row is a learner's whole history; their answers' weights sum to one."""

    def build(self, spec: SkillRatesSpec, weights: Weights) -> nn.Module:
        return SkillRatesModule(weights)

    def batch(
        self,
        spec: SkillRatesSpec,
        histories: Sequence[History],
        local: LocalTraining,
        noise: NoiseSource,
    ) -> Batch[Answers]:
        whole = History.concatenate(histories)
        windows = all_of(lengths_of(histories))
        shares = np.repeat(windows.weights, windows.lengths).astype(np.float32)
        inputs = Answers(
            skills=windows.rows(whole.skills[:, 0].clip(min=0)).long(),
            correct=windows.rows(whole.correct),
            weights=windows.spread(shares),
        )
        return Batch(inputs, torch.from_numpy(windows.learners), len(histories))

    def loss(self, module: nn.Module, batch: Batch[Answers]) -> torch.Tensor:
        answers = batch.inputs
        losses = binary_cross_entropy_with_logits(
            module(answers), answers.correct, reduction="none"
        )
        return (losses * answers.weights).sum(dim=1)

    def score(
        self, spec: SkillRatesSpec, weights: Weights, histories: Sequence[History]
    ) -> list[Scores]:
        chances = 1 / (1 + np.exp(-weights["logit"][:, 0].astype(np.float64)))
        return [
            Scores(one.correct.astype(np.float64), chances[one.skills[:, 0]]) for one in histories
        ]

    def metrics(self, scores: Scores) -> dict[str, float]:
        return classification_metrics(scores)
