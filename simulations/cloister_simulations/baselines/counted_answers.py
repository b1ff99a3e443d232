"""Answers with their counted practice as a table, and its clipped gradients in a few products."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from cloister_client.histories import History
from cloister_client.practice_record import FEATURES as COUNTED
from cloister_client.practice_record import answered
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.private import Floats, answer_weights, clip_factors
from cloister_simulations.baselines.recency import RECENCY_FEATURES, recency_features
from cloister_simulations.baselines.tracing import (
    all_correct,
    answered_skills,
    learners_of_answers,
)

FEATURES = COUNTED + RECENCY_FEATURES + 1


def counted_features(histories: Sequence[History], item_counts: bool) -> NDArray[np.float32]:
    """(answers of all histories, 19) counted practice, recency, and a constant 1.

    Without ``item_counts`` an item is known by its first skill alone, as in DKT.
    """
    if not histories:
        return np.zeros((0, FEATURES), dtype=np.float32)
    whole, learners = History.concatenate(histories), learners_of_answers(histories)
    if not item_counts:
        whole = replace(whole, items=np.maximum(whole.skills[:, 0], 0))
    constant = np.ones(len(whole), dtype=np.float32)
    return np.column_stack([answered(whole, learners), recency_features(whole, learners), constant])


@dataclass(frozen=True)
class CountedAnswers:
    """All answers of all learners, one learner after the other.

    ``features`` (n, 19) in a public scale; ``skills`` (n, skills), at each of an answer's skills
    1 / their number; ``weights`` and ``correct`` (n,); ``ends`` (learners + 1,): where each
    learner's answers begin, and the last one's end. A cell is one learner's answers to one skill:
    ``cell`` (pairs,) of each entry of ``skills``, ``cell_learner`` and ``cell_skill`` (cells,).
    """

    features: NDArray[np.float32]
    skills: sparse.csr_array
    weights: NDArray[np.float32]
    correct: NDArray[np.float32]
    ends: NDArray[np.int64]
    cell: NDArray[np.int64]
    cell_learner: NDArray[np.int64]
    cell_skill: NDArray[np.int64]

    @classmethod
    def of(
        cls, histories: Sequence[History], features: NDArray[np.float32], curriculum: Curriculum
    ) -> "CountedAnswers":
        """The table of ``histories`` with their ``features``."""
        skills = shares_of_skills(histories, len(curriculum.skills))
        learner = learners_of_answers(histories)
        lengths = np.array([len(history) for history in histories], dtype=np.int64)
        pair_learner = np.repeat(learner, np.diff(skills.indptr))
        cells, cell = np.unique(
            pair_learner * len(curriculum.skills) + skills.indices, return_inverse=True
        )
        return cls(
            features=features,
            skills=skills,
            weights=answer_weights(lengths)[learner].astype(np.float32),
            correct=all_correct(histories).astype(np.float32),
            ends=np.concatenate([[0], np.cumsum(lengths)]),
            cell=cell,
            cell_learner=cells // len(curriculum.skills),
            cell_skill=cells % len(curriculum.skills),
        )

    @property
    def learners(self) -> int:
        """Number of histories."""
        return len(self.ends) - 1

    def clipped_sum(self, weights: Floats, clip_norm: float) -> Floats:
        """(19 + skills,) sum over learners of their gradients of the log-likelihood.

        Each is clipped to an L2 norm of ``clip_norm``: by so much one learner changes the sum.
        """
        dense = self.features.shape[1]
        chances = expit(logits(self.features, self.skills, weights))
        residuals = (self.correct - chances) * self.weights
        of_answers = sparse.csr_array(
            (residuals, np.arange(len(residuals)), self.ends), (self.learners, len(residuals))
        )
        of_features = np.asarray(of_answers @ self.features, dtype=np.float64)
        of_pairs = np.repeat(residuals, np.diff(self.skills.indptr)) * self.skills.data
        of_cells = np.bincount(self.cell, weights=of_pairs, minlength=len(self.cell_skill))
        squares = (of_features**2).sum(axis=1)
        squares += np.bincount(self.cell_learner, of_cells**2, minlength=self.learners)
        factors = clip_factors(squares, clip_norm)
        skills = len(weights) - dense
        by_skill = of_cells * factors[self.cell_learner]
        return np.concatenate(
            [factors @ of_features, np.bincount(self.cell_skill, by_skill, minlength=skills)]
        )


def shares_of_skills(histories: Sequence[History], skills: int) -> sparse.csr_array:
    """(answers, skills): 1 / (number of its skills) at each skill of an answer."""
    rows, columns = answered_skills(histories)
    counts = np.bincount(rows, minlength=sum(map(len, histories)))
    ends = np.concatenate([[0], np.cumsum(counts)])
    shares = (1 / counts[rows]).astype(np.float32)
    return sparse.csr_array((shares, columns, ends), (len(counts), skills))


def logits(
    features: NDArray[np.float32], skills: sparse.csr_array, weights: Floats
) -> NDArray[np.float32]:
    """(answers,) from the 19 + skills ``weights``."""
    single = weights.astype(np.float32)
    dense = features.shape[1]
    return np.asarray(features @ single[:dense] + skills @ single[dense:])
