"""Best-LR: logistic regression on difficulties and on counts of earlier right and wrong answers.

Gervet, Koedinger, Schneider, Mitchell, "When is Deep Learning the Best Approach to Knowledge
Tracing?", JEDM 12(3), 2020, section 3. With φ(x) = log(1 + x), and s and f the learner's numbers of
right and wrong answers before this one, over all skills or on skill k:

    logit = bias + δ_item + a·φ(s) + b·φ(f) + Σ_{k of the item} (β_k + γ_k·φ(s_k) + ρ_k·φ(f_k))
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.majority import predict_majority
from cloister_simulations.baselines.tracing import (
    all_correct,
    answered_skills,
    by_history,
    concatenated,
    learners_of_answers,
)

MAX_ITERATIONS = 1000


def predict_best_lr(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    *,
    item_effects: bool = True,
) -> list[Scores]:
    """Probabilities of all answers but each learner's first.

    ``item_effects`` False leaves out the δ of items: the skill-level form, which knows as much
    of an answer as DKT does. Train answers that are all alike give the majority's constant.
    """
    correct = all_correct(train)
    if len(np.unique(correct)) < 2:
        return predict_majority(train, evaluation, curriculum)
    model = LogisticRegression(max_iter=MAX_ITERATIONS)
    model.fit(answer_features(train, curriculum, item_effects), correct)
    features = answer_features(evaluation, curriculum, item_effects)
    return by_history(evaluation, _probabilities(model, features))


def answer_features(
    histories: Sequence[History], curriculum: Curriculum, item_effects: bool
) -> sparse.csr_array:
    """(answers of all histories, 3·skills + 2 [+ items]) features, from earlier answers only.

    Columns: skills, φ(s_k), φ(f_k), φ(s), φ(f), and items if ``item_effects``.
    """
    rows, skills = answered_skills(histories)
    learner, correct = learners_of_answers(histories), all_correct(histories)
    right, wrong = _earlier(pd.DataFrame({"learner": learner, "correct": correct}))
    right_on_skill, wrong_on_skill = _earlier(
        pd.DataFrame({"learner": learner[rows], "skill": skills, "correct": correct[rows]})
    )
    shape = (len(learner), len(curriculum.skills))
    blocks = [
        sparse.csr_array((values, (rows, skills)), shape=shape)
        for values in (np.ones(len(rows)), np.log1p(right_on_skill), np.log1p(wrong_on_skill))
    ]
    blocks.append(sparse.csr_array(np.column_stack([np.log1p(right), np.log1p(wrong)])))
    if item_effects:
        blocks.append(_one_hot(histories, len(curriculum.items)))
    return sparse.csr_array(sparse.hstack(blocks, format="csr"))


def _earlier(answers: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numbers of right and wrong answers before each row, in groups of equal other columns."""
    groups = answers.groupby([name for name in answers if name != "correct"], sort=False)["correct"]
    right = (groups.cumsum() - answers["correct"]).to_numpy(dtype=np.float64)
    return right, groups.cumcount().to_numpy(dtype=np.float64) - right


def _one_hot(histories: Sequence[History], items: int) -> sparse.csr_array:
    """(answers, items) with a one at each answer's item."""
    columns = concatenated([history.items for history in histories], int)
    shape = (len(columns), items)
    return sparse.csr_array((np.ones(len(columns)), (np.arange(len(columns)), columns)), shape)


def _probabilities(model: LogisticRegression, features: sparse.csr_array) -> NDArray[np.float64]:
    """(answers,) probabilities of a right answer; scikit-learn takes no empty matrix."""
    return model.predict_proba(features)[:, 1] if features.shape[0] else np.zeros(0)
