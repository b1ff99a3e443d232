"""What a learner adds to a gradient is the same to the last bit whoever else is in the batch.

Weights that amplify rounding would otherwise turn a neighbour into a change of direction.
"""

import pytest
import torch

from cloister_client.histories import History
from cloister_client.models import Batch, model_kind
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining

from ..learners import ITEMS, SKILLS, ConstantNoise, made_up_history, random_weights
from .per_learner import leaf_calls

SPECS = [
    DktSpec(skills=SKILLS, hidden=7, items=ITEMS, practice=True),
    DktSpec(skills=SKILLS, hidden=32),
    RecommenderSpec(items=ITEMS, factors=5, lags=3, negatives=3),
]
MINE = made_up_history(61, 7, most_skills=3)


def make_batch(spec: ModelSpec, histories: list[History]) -> Batch:
    """Items to compare with are drawn alike in every batch."""
    return model_kind(spec).batch(spec, histories, LocalTraining(window=20), ConstantNoise())


def gradients_of_mine(spec: ModelSpec, others: list[History]) -> list[torch.Tensor]:
    """What leaves each leaf, of the last learner's answers only."""
    batch = make_batch(spec, [*others, MINE])
    rows = batch.learner_of_row == len(others)
    true = batch.inputs.weights[rows] > 0
    calls = leaf_calls(spec, random_weights(spec, scale=5.0), batch)
    return [call.output[rows][true] for call in calls]


@pytest.mark.usefixtures("_threads", "_either_way")
@pytest.mark.parametrize("spec", SPECS, ids=["dkt, all", "dkt", "recommender"])
@pytest.mark.parametrize(
    "others", [[1], [40, 19, 3, 2, 1], [70] * 33], ids=["one", "ragged", "many"]
)
def test_the_gradient_of_a_learners_answers_is_the_same_whoever_else_is_there(others, spec):
    everybody = [made_up_history(answers, seed, 3) for seed, answers in enumerate(others)]
    alone, together = gradients_of_mine(spec, []), gradients_of_mine(spec, everybody)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
        assert one.any()
