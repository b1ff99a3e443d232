"""Answers as one sequence for every (learner, skill), so laid out that all step at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_simulations.baselines.tracing import (
    all_correct,
    answered_skills,
    learners_of_answers,
)


@dataclass(frozen=True)
class SkillSequences:
    """Sequences, the longest first; (answer, skill) pairs step by step, in the sequences' order.

    ``skill`` (sequences,) of each sequence. ``steps``: the slice of pairs that are their
    sequences' first, second, ... answers; a step's n pairs belong to the first n sequences. For
    each pair: ``skill_of_pair``, ``answer`` (its answer's place among all histories'), ``right``
    (0 or 1), and ``goes_on`` (1 unless it is its sequence's last).
    """

    skill: NDArray[np.int64]
    steps: tuple[slice, ...]
    skill_of_pair: NDArray[np.int64]
    answer: NDArray[np.int64]
    right: NDArray[np.float64]
    goes_on: NDArray[np.float64]

    @classmethod
    def of(cls, histories: Sequence[History], skills: int) -> "SkillSequences":
        """The sequences of all ``histories``, whose skill positions lie below ``skills``."""
        answers, skill = answered_skills(histories)
        owner = learners_of_answers(histories)[answers] * skills + skill
        order = np.argsort(owner, kind="stable")
        _, starts, lengths = np.unique(owner[order], return_index=True, return_counts=True)
        rank = np.empty(len(lengths), dtype=np.int64)
        rank[np.argsort(-lengths, kind="stable")] = np.arange(len(lengths))
        step = np.arange(len(order)) - np.repeat(starts, lengths)
        by_step = order[np.lexsort((np.repeat(rank, lengths), step))]
        ends = np.cumsum(np.bincount(step))
        skill_of_pair = skill[by_step]
        return cls(
            skill=skill_of_pair[: len(lengths)],
            steps=tuple(map(slice, [0, *ends[:-1]], ends)),
            skill_of_pair=skill_of_pair,
            answer=answers[by_step],
            right=all_correct(histories)[answers[by_step]],
            goes_on=_goes_on(ends),
        )

    def as_one_skill(self) -> "SkillSequences":
        """The same sequences as if all were of one skill."""
        return replace(
            self,
            skill=np.zeros_like(self.skill),
            skill_of_pair=np.zeros_like(self.skill_of_pair),
        )


def _goes_on(ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """(pairs,) 1 where the sequence has a further step: the first ones of each step do."""
    live = np.diff(ends, prepend=0)
    following = np.append(live, 0)[1:]
    place = np.arange(live.sum()) - np.repeat(ends - live, live)
    return (place < np.repeat(following, live)).astype(np.float64)
