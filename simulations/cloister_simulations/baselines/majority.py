"""The share of right answers, said of every answer: what accuracy is worth without a model."""

from collections.abc import Sequence

import numpy as np

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum


def predict_majority(
    train: Sequence[History], evaluation: Sequence[History], curriculum: Curriculum
) -> list[Scores]:
    """The share of right train answers as the probability of every answer but a learner's first.

    Without train answers the share is .5.
    """
    answers = sum(len(history) for history in train)
    right = sum(float(history.correct.sum()) for history in train)
    share = right / answers if answers else 0.5
    return [
        Scores(history.correct[1:].astype(np.float64), np.full(max(len(history) - 1, 0), share))
        for history in evaluation
    ]
