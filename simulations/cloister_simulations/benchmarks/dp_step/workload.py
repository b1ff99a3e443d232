"""What every contender of the benchmark ``dp-step`` trains on: the same synthetic answers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from cloister_client.histories import History

SKILLS = 123
FILL = 0.6
"""Share of the padded answers that are real."""
CLIP, NOISE, RATE = 0.1, 1.0, 0.01


class Shape(NamedTuple):
    """A batch and a model: learners, answers of the longest history, LSTM units."""

    learners: int
    longest: int
    hidden: int


class Trainee(Protocol):
    """A model, its optimizer and the learners of one step."""

    def step(self) -> None:
        """From the learners' answers to updated weights."""


@dataclass(frozen=True)
class Padded:
    """Answers as tensors of (learners, longest); ``weight`` is 1 / answers, or 0 in the padding."""

    skill: torch.Tensor
    correct: torch.Tensor
    weight: torch.Tensor


def cores() -> int:
    """The cores that this process may use: every contender has as many threads."""
    return len(os.sched_getaffinity(0))


def histories(shape: Shape) -> list[History]:
    """Ragged histories, uniform in length around FILL · longest, one of them the longest."""
    random = np.random.default_rng(0)
    least = int((2 * FILL - 1) * shape.longest)
    lengths = random.integers(least, shape.longest + 1, shape.learners)
    lengths[0] = shape.longest
    return [_history(int(length), random) for length in lengths]


def _history(length: int, random: np.random.Generator) -> History:
    skills = random.integers(0, SKILLS, length).astype(np.int32)
    correct = (random.random(length) < 0.6).astype(np.float32)
    return History(skills, skills[:, None], correct, np.arange(length, dtype=np.float64))


def pad(ragged: Sequence[History]) -> Padded:
    """The same answers for contenders that take a rectangle."""
    shape = (len(ragged), max(map(len, ragged)))
    skill, correct, weight = torch.zeros(shape).long(), torch.zeros(shape), torch.zeros(shape)
    for row, history in enumerate(ragged):
        skill[row, : len(history)] = torch.from_numpy(history.items).long()
        correct[row, : len(history)] = torch.from_numpy(history.correct)
        weight[row, : len(history)] = 1 / len(history)
    return Padded(skill, correct, weight)
