"""What a federated model is held against: simple models on the pooled, unprotected data."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.best_lr import predict_best_lr
from cloister_simulations.baselines.item_knn import rank_by_item_knn
from cloister_simulations.baselines.majority import predict_majority
from cloister_simulations.baselines.markov import rank_by_markov
from cloister_simulations.baselines.matrix_factorization import rank_by_matrix_factorization
from cloister_simulations.baselines.popularity import rank_by_popularity

__all__ = [
    "BASELINES",
    "Baseline",
    "predict_best_lr",
    "predict_majority",
    "rank_by_item_knn",
    "rank_by_markov",
    "rank_by_matrix_factorization",
    "rank_by_popularity",
]

Baseline = Callable[[Sequence[History], Sequence[History], Curriculum], list[Scores]]
"""Train histories, evaluation histories and curriculum in; one ``Scores`` per evaluation history
out, in their order. Each prediction is made from the learner's answers before it."""

BASELINES: Mapping[str, Mapping[str, Baseline]] = {
    "dkt": {
        "majority": predict_majority,
        "best_lr_skills": partial(predict_best_lr, item_effects=False),
        "best_lr": predict_best_lr,
    },
    "recommender": {
        "popularity": rank_by_popularity,
        "item_knn": rank_by_item_knn,
        "markov": rank_by_markov,
        "matrix_factorization": rank_by_matrix_factorization,
    },
}
"""The baselines of each model kind by name."""
