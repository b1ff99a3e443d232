"""What a federated model is held against: simple models on the pooled data.

Most know the data unprotected. The private ones are the bar for a private model: they give each
learner the same (ε, δ), with one noise for the sum of all learners.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.best_lr import predict_best_lr
from cloister_simulations.baselines.bkt import predict_bkt
from cloister_simulations.baselines.dp_logistic_regression import (
    predict_dp_logistic_regression,
    predict_logistic_regression,
)
from cloister_simulations.baselines.dp_skill_rates import predict_dp_skill_rates
from cloister_simulations.baselines.item_knn import rank_by_item_knn
from cloister_simulations.baselines.majority import predict_majority
from cloister_simulations.baselines.markov import rank_by_markov
from cloister_simulations.baselines.matrix_factorization import rank_by_matrix_factorization
from cloister_simulations.baselines.popularity import rank_by_popularity
from cloister_simulations.baselines.private import Allowance

__all__ = [
    "BASELINES",
    "PRIVATE_BASELINES",
    "Allowance",
    "Baseline",
    "PrivateBaseline",
    "predict_best_lr",
    "predict_bkt",
    "predict_dp_logistic_regression",
    "predict_dp_skill_rates",
    "predict_logistic_regression",
    "predict_majority",
    "rank_by_item_knn",
    "rank_by_markov",
    "rank_by_matrix_factorization",
    "rank_by_popularity",
]

Baseline = Callable[[Sequence[History], Sequence[History], Curriculum], list[Scores]]
"""Train histories, evaluation histories and curriculum in; one ``Scores`` per evaluation history
out, in their order. Each prediction is made from the learner's answers before it."""


class PrivateBaseline(Protocol):
    """The same, with what may be spent on each train learner."""

    def __call__(
        self,
        train: Sequence[History],
        evaluation: Sequence[History],
        curriculum: Curriculum,
        allowance: Allowance,
    ) -> list[Scores]:
        """One ``Scores`` for each of ``evaluation``."""


BASELINES: Mapping[str, Mapping[str, Baseline]] = {
    "dkt": {
        "majority": predict_majority,
        "bkt": predict_bkt,
        "best_lr_skills": partial(predict_best_lr, item_effects=False),
        "best_lr": predict_best_lr,
        "logistic_regression_skills": partial(predict_logistic_regression, item_counts=False),
        "logistic_regression": predict_logistic_regression,
    },
    "recommender": {
        "popularity": rank_by_popularity,
        "item_knn": rank_by_item_knn,
        "markov": rank_by_markov,
        "matrix_factorization": rank_by_matrix_factorization,
    },
}
"""The baselines of each model kind by name."""

PRIVATE_BASELINES: Mapping[str, Mapping[str, PrivateBaseline]] = {
    "dkt": {
        "dp_skill_rates": predict_dp_skill_rates,
        "dp_logistic_regression_skills": partial(predict_dp_logistic_regression, item_counts=False),
        "dp_logistic_regression": predict_dp_logistic_regression,
    },
}
"""Those under learner-level differential privacy, each with a budget of its own."""
